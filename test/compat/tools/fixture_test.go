package tools

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"quorate.dev/quorate/test/compat/proc"
)

// history is what the fixtures hold, one command a line: several revisions, a deleted key, a lease, users, a compaction.
const history = `put a 1
put a 2
put b 1
put c 1
del c
put a 3
put d/1 x
put d/2 y
put b 2
compaction 6
put a 4
put e 5
del d/1
user add root:rootpw
user add alice:alicepw
role add readers
role grant-permission readers read a
user grant-role alice readers`

// fixtures is a directory of files that scripts without a server begin with: etcd.snap is a snapshot of an etcd with a history,
// empty.snap one of an etcd that nothing was written to.
var fixtures = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(shared, "fixtures")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	by, err := judge()
	if err != nil {
		return "", err
	}
	server, err := proc.Start(proc.Etcd, filepath.Join(shared, "fixture-server"), "--unsafe-no-fsync", "--bcrypt-cost=4")
	if err != nil {
		return "", err
	}
	defer server.Kill()
	lines := []string{"snapshot save " + filepath.Join(dir, "empty.snap")}
	lines = append(append(lines, strings.Split(history, "\n")...), "snapshot save "+filepath.Join(dir, "etcd.snap"))
	for _, line := range lines {
		if out, err := exec.Command(by.ctl[0], append([]string{"--endpoints=" + server.Addr}, strings.Fields(line)...)...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("%s: %w\n%s", line, err, out)
		}
	}
	return dir, nil
})

// certificates is a directory with those of an authority (ca), a server at 127.0.0.1, the user alice, and a stranger, whom another
// authority vouches for.
var certificates = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(shared, "certificates")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	for i, names := range [][]string{{"ca", "server", "alice"}, {"other", "stranger"}} {
		template := func(name string) *x509.Certificate {
			return &x509.Certificate{SerialNumber: big.NewInt(int64(len(name) + 10*i)), Subject: pkix.Name{CommonName: name},
				NotBefore: time.Unix(1700000000, 0), NotAfter: time.Unix(4000000000, 0), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
				ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
		}
		authority := template(names[0])
		authority.IsCA, authority.BasicConstraintsValid, authority.KeyUsage = true, true, x509.KeyUsageCertSign
		var signer *ecdsa.PrivateKey
		for _, name := range names {
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				return "", err
			}
			of := template(name)
			if signer == nil {
				signer, of = key, authority
			}
			cert, err := x509.CreateCertificate(rand.Reader, of, authority, &key.PublicKey, signer)
			if err != nil {
				return "", err
			}
			secret, err := x509.MarshalPKCS8PrivateKey(key)
			if err != nil {
				return "", err
			}
			for ext, block := range map[string]*pem.Block{"pem": {Type: "CERTIFICATE", Bytes: cert}, "key": {Type: "PRIVATE KEY", Bytes: secret}} {
				if err := os.WriteFile(filepath.Join(dir, name+"."+ext), pem.EncodeToMemory(block), 0o600); err != nil {
					return "", err
				}
			}
		}
	}
	return dir, nil
})
