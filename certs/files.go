package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"
)

// material is what the files of one side hold. It never changes once published.
type material struct {
	cert, client *tls.Certificate // nil when there is none
	pool         *x509.CertPool   // nil for the system's
	cas          []*x509.Certificate
	revoked      map[string]bool // serial numbers, as bytes; nil without a list
	lists        []*x509.RevocationList
}

// part is a group of files that are only of use together.
type part struct {
	files  []string
	load   func(data [][]byte, into *material) error
	stamps []stamp
	data   [][]byte
	racy   bool   // a file was so new that another change might not show in its stamp
	failed string // why the files cannot be used, "" when they can
}

// stamp changes when a file does, nearly always.
type stamp struct {
	info os.FileInfo
	at   time.Time
	size int64
}

func (s stamp) same(o stamp) bool {
	return s.info != nil && o.info != nil && s.at.Equal(o.at) && s.size == o.size && os.SameFile(s.info, o.info)
}

// racyAge is how old a file must be for its stamp to be trusted: file systems count time in steps.
const racyAge = 2 * time.Second

// fileBytes bounds a file: a certificate takes a few KB, and a list of a million revocations some 40 MB.
const fileBytes = 64 << 20

// look loads the part again when a file changed; changed says that m has something new.
func (p *part) look(m *material, now time.Time) (changed bool, err error) {
	stamps := make([]stamp, len(p.files))
	same, young := p.failed == "" && !p.racy && len(p.stamps) > 0, false
	for i, name := range p.files {
		info, err := os.Stat(name)
		if err != nil {
			return false, p.fail(err)
		}
		stamps[i] = stamp{info, info.ModTime(), info.Size()}
		same = same && stamps[i].same(p.stamps[i])
		young = young || now.Sub(info.ModTime()) < racyAge
	}
	if same {
		return false, nil
	}
	data := make([][]byte, len(p.files))
	unchanged := len(p.data) > 0 && p.failed == ""
	for i, name := range p.files {
		if stamps[i].size > fileBytes {
			return false, p.fail(fmt.Errorf("%s has %d bytes; at most %d are read", name, stamps[i].size, int64(fileBytes)))
		}
		if data[i], err = os.ReadFile(name); err != nil {
			return false, p.fail(err)
		}
		unchanged = unchanged && bytes.Equal(data[i], p.data[i])
	}
	if !unchanged {
		if err := p.load(data, m); err != nil {
			return false, p.fail(err)
		}
	}
	p.stamps, p.data, p.racy, p.failed = stamps, data, young, ""
	return !unchanged, nil
}

// fail notes why the files cannot be used. The error is nil when that was said already.
func (p *part) fail(err error) error {
	if p.failed == err.Error() {
		return nil
	}
	p.failed = err.Error()
	return err
}

// pairPart is a certificate and its key.
func pairPart(cert, key string, set func(*material, *tls.Certificate)) *part {
	return &part{files: []string{cert, key}, load: func(data [][]byte, m *material) error {
		pair, err := tls.X509KeyPair(data[0], data[1])
		if err != nil {
			return fmt.Errorf("certificate %s with key %s: %w", cert, key, err)
		}
		set(m, &pair)
		return nil
	}}
}

func caPart(file string) *part {
	return &part{files: []string{file}, load: func(data [][]byte, m *material) error {
		cas, err := parseCertificates(data[0])
		if err != nil {
			return fmt.Errorf("CA certificates in %s: %w", file, err)
		}
		m.cas, m.pool = cas, x509.NewCertPool()
		for _, c := range cas {
			m.pool.AddCert(c)
		}
		return nil
	}}
}

func parseCertificates(data []byte) (list []*x509.Certificate, err error) {
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	if len(list) == 0 {
		return nil, errors.New("there is no certificate in PEM form")
	}
	return list, nil
}

func crlPart(file string) *part {
	return &part{files: []string{file}, load: func(data [][]byte, m *material) error {
		lists, err := parseRevocations(data[0])
		if err != nil {
			return fmt.Errorf("revocation list %s: %w", file, err)
		}
		m.lists, m.revoked = lists, map[string]bool{}
		for _, l := range lists {
			for _, e := range l.RevokedCertificateEntries {
				m.revoked[string(e.SerialNumber.Bytes())] = true
			}
		}
		return nil
	}}
}

// parseRevocations reads one list in DER form, or any number in PEM form.
func parseRevocations(data []byte) (lists []*x509.RevocationList, err error) {
	rest := data
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "X509 CRL" {
			continue
		}
		l, err := x509.ParseRevocationList(block.Bytes)
		if err != nil {
			return nil, err
		}
		lists = append(lists, l)
	}
	if len(lists) > 0 {
		return lists, nil
	}
	l, err := x509.ParseRevocationList(data)
	if err != nil {
		return nil, fmt.Errorf("neither a list in DER form nor in PEM form: %w", err)
	}
	return []*x509.RevocationList{l}, nil
}
