package proxy

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"go.uber.org/zap"

	"quorate.dev/quorate/certs"
)

// storeKeeper has the certificates for the store; nil when no flag asks for TLS.
func (p *Proxy) storeKeeper() (*certs.Keeper, error) {
	set := p.cfg.Store.TLS
	if set.ClientCert == "" && set.ClientKey == "" && set.CA == "" && !p.cfg.Store.SkipVerify {
		return nil, nil
	}
	if p.cfg.Store.SkipVerify {
		p.log.Warn("--insecure-skip-tls-verify was given, this grpc proxy process skips authentication of etcd server TLS certificates. " +
			"This option should be enabled only for testing purposes.")
	}
	keeper, err := certs.New(set, certs.Options{Clock: p.clock,
		Reloaded: func(files []string) { p.log.Info("certificates were loaded again", zap.Strings("files", files)) },
		Failed:   func(err error) { p.log.Warn("changed certificates cannot be used", zap.Error(err)) }})
	if err != nil {
		return nil, fmt.Errorf("--cert, --key, --cacert: %w", err)
	}
	if set.ClientCert == "" {
		return keeper, nil
	}
	return keeper, nameless(set.ClientCert)
}

// nameless refuses a certificate that names somebody: the store would take every client of the proxy for that user. The words
// are etcd's.
func nameless(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("--cert: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return fmt.Errorf("--cert: %s holds no certificate", file)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return fmt.Errorf("--cert: %s: %w", file, err)
	}
	if name := cert.Subject.CommonName; name != "" {
		return fmt.Errorf("cert has non empty Common Name (%s): %s", name, file)
	}
	return nil
}

// autoTLS makes a certificate below the data directory, unless there is one.
func (p *Proxy) autoTLS() (certs.Made, error) {
	host, _, err := net.SplitHostPort(p.cfg.Listen.Address)
	if err != nil {
		return certs.Made{}, fmt.Errorf("--listen-addr: %w", err)
	}
	made, err := certs.Make(filepath.Join(p.cfg.DataDir, "fixtures", "proxy"), []string{host}, uint64(p.cfg.Listen.AutoTLSYear), p.clock.Now())
	if err == nil && made.Fresh {
		p.log.Warn("automatically generate certificates", zap.Time("certificate-validity-bound-not-after", made.NotAfter), zap.String("path", made.Cert))
	}
	return made, err
}
