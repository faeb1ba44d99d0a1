// Package etcd34 provides Debian's etcd 3.4 to tests: the programs etcd and etcdctl, and processes of them.
//
// It is not a test framework, and it knows nothing of what it is compared with. It is the last etcd that has the v2 API and
// "etcdctl migrate", so it judges what is about v2. Nothing is installed: the packages are unpacked into the user's cache
// directory, once for all tests of this machine.
//
// Invariants: a program that Programs returns is the pinned version, byte for byte; a package that cannot be had is an error
// that says how to get it, never a reason to skip; a server has answered a linearizable read when Start returns, and dies with
// its parent.
package etcd34

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"time"
)

// Version is what the programs are.
const Version = "3.4.23"

// revision of Debian's package, which is what is pinned.
const revision = Version + "-4+b4"

// mirror has Debian's packages where apt cannot be asked.
const mirror = "http://deb.debian.org/debian/pool/main/e/etcd/"

// packages are those of bookworm for amd64, the only processor with a pin.
var packages = []struct{ name, sha256, program string }{
	{"etcd-server", "3a9445d4560ad6de1c375756b2a17d97713df44cbd20a658c871fe108af7ef5d", "etcd"},
	{"etcd-client", "db3a484d5d924b50bf71f459ee544ecd7b11c25dc2f6becc0c50352d67299cc8", "etcdctl"},
}

// Paths are the two programs.
type Paths struct{ Etcd, Etcdctl string }

var once = sync.OnceValues(provide)

// Programs returns the programs. The variables ETCD34_BIN and ETCDCTL34_BIN name ready-made ones; without both the packages are
// taken from the cache, from apt, or from Debian's server.
func Programs() (Paths, error) { return once() }

func provide() (Paths, error) {
	if p := (Paths{os.Getenv("ETCD34_BIN"), os.Getenv("ETCDCTL34_BIN")}); p.Etcd != "" && p.Etcdctl != "" {
		return p, nil
	}
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return Paths{}, fmt.Errorf("these tests need etcd %s, and Debian's packages are pinned for linux/amd64 only: name programs in ETCD34_BIN and ETCDCTL34_BIN", Version)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return Paths{}, fmt.Errorf("these tests keep Debian's etcd %s in the user's cache directory: %w", Version, err)
	}
	dir := filepath.Join(cache, "quorate-test", "etcd-"+revision)
	var programs []string
	for _, p := range packages {
		path := filepath.Join(dir, p.name, "usr", "bin", p.program)
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			err = unpack(filepath.Join(dir, p.name), p.name, p.sha256)
			if err != nil {
				return Paths{}, fmt.Errorf("these tests need Debian's package %s %s: %w\n(or name ready-made programs in ETCD34_BIN and ETCDCTL34_BIN)", p.name, revision, err)
			}
		}
		programs = append(programs, path)
	}
	return Paths{programs[0], programs[1]}, nil
}

// unpack makes dir of a package. Several processes may do so at the same time: the first one's counts.
func unpack(dir, name, sum string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	scratch, err := os.MkdirTemp(filepath.Dir(dir), "unpacking-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	deb, err := fetch(scratch, name, sum)
	if err != nil {
		return err
	}
	tree := filepath.Join(scratch, "tree")
	if out, err := exec.Command("dpkg", "-x", deb, tree).CombinedOutput(); err != nil {
		return fmt.Errorf("dpkg -x %s: %w\n%s", deb, err, out)
	}
	if err := os.Rename(tree, dir); err != nil && !isDir(dir) {
		return err
	}
	return nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// fetch downloads a package into dir, through apt or from Debian's server, and checks that it is the pinned one.
func fetch(dir, name, sum string) (string, error) {
	path := filepath.Join(dir, fmt.Sprintf("%s_%s_amd64.deb", name, revision))
	cmd := exec.Command("apt-get", "download", name+"="+revision)
	cmd.Dir = dir
	out, aptErr := cmd.CombinedOutput()
	if aptErr == nil {
		if aptErr = check(path, sum); aptErr == nil {
			return path, nil
		}
	}
	aptErr = fmt.Errorf("apt-get download: %w\n%s", aptErr, bytes.TrimSpace(out))
	err := download(mirror+filepath.Base(path), path)
	if err == nil {
		err = check(path, sum)
	}
	if err != nil {
		return "", errors.Join(aptErr, err)
	}
	return path, nil
}

func check(path, sum string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != sum {
		return fmt.Errorf("%s has SHA-256 %s, and %s is pinned", filepath.Base(path), got, sum)
	}
	return nil
}

func download(url, path string) error {
	client := http.Client{Timeout: 5 * time.Minute}
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, resp.Body)
	return errors.Join(err, f.Close())
}
