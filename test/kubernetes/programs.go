// Package kubernetes runs real programs of Kubernetes as processes: API servers on any store, with certificates, and what stands
// around them in a control plane.
//
// It is not a test framework, and it knows nothing of stores but their URLs. The programs are built from Kubernetes' own module with its
// own versions of everything, which is why they are in a module of their own (programs); this package talks to them by flags, files
// and HTTP. What is built or unpacked stays in a directory of the user's cache and is used by the next run.
//
// Every process ends with the one that started it, whatever happens to that.
package kubernetes

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
)

// Version is the release of Kubernetes that programs/go.mod names.
const Version = "v1.36.3"

// building lets one test of this process build at a time; between processes the go command's own locks do.
var building sync.Mutex

// cacheDir is where programs stay from one run to the next.
func cacheDir(parts ...string) (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(append([]string{base, "quorate-tests"}, parts...)...)
	return dir, os.MkdirAll(dir, 0o755)
}

// here is the directory of this file.
func here() string {
	_, self, _, _ := runtime.Caller(0)
	return filepath.Dir(self)
}

// built are the programs that this process has already seen to.
var built = map[string]string{}

// Program returns the path of a program of Kubernetes, such as kube-apiserver: a directory of the module programs, or kwok, which has a
// module of its own there. It is built when what it is made from has changed, which the go command decides: the first time takes
// minutes, the next a second.
func Program(name string) (string, error) {
	building.Lock()
	defer building.Unlock()
	if path := built[name]; path != "" {
		return path, nil
	}
	dir, err := cacheDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	version := "-s -w -X k8s.io/component-base/version.gitVersion=" + Version + " -X k8s.io/client-go/pkg/version.gitVersion=" + Version
	pkg, module := "./"+name, filepath.Join(here(), "programs")
	if name == "kwok" {
		pkg, module = "sigs.k8s.io/kwok/cmd/kwok", filepath.Join(module, "kwok")
	}
	cmd := exec.Command("nice", "-n", "10", "go", "build", "-trimpath", "-ldflags", version, "-o", path, pkg)
	cmd.Dir = module
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s in %s: %w\n%s", name, cmd.Dir, err, out)
	}
	built[name] = path
	return path, nil
}

// HAProxy returns a command that runs HAProxy as Debian ships it: the installed one, or the package with the libraries that it needs,
// downloaded and unpacked without being installed.
func HAProxy() (path string, env []string, err error) {
	building.Lock()
	defer building.Unlock()
	if path, err := exec.LookPath("haproxy"); err == nil {
		return path, nil, nil
	}
	dir, err := cacheDir("haproxy")
	if err != nil {
		return "", nil, err
	}
	libraries, _ := filepath.Glob(filepath.Join(dir, "usr", "lib", "*-linux-gnu*"))
	if libraries == nil {
		if err := unpack(dir, "haproxy", "liblua5.3-0", "libopentracing1", "libopentracing-c-wrapper0"); err != nil {
			return "", nil, err
		}
		libraries, _ = filepath.Glob(filepath.Join(dir, "usr", "lib", "*-linux-gnu*"))
	}
	path, env = filepath.Join(dir, "usr", "sbin", "haproxy"), []string{"LD_LIBRARY_PATH=" + strings.Join(libraries, ":")}
	check := exec.Command(path, "-v")
	check.Env = env
	if out, err := check.CombinedOutput(); err != nil {
		return "", nil, fmt.Errorf("%s does not run: %w\n%s\n(apt-get install haproxy would do, too)", path, err, out)
	}
	return path, env, nil
}

// unpack downloads packages of Debian and puts their files below dir, all of them or none.
func unpack(dir string, packages ...string) error {
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "unpack-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	download := func() ([]byte, error) {
		cmd := exec.Command("apt-get", append([]string{"download", "-q"}, packages...)...)
		cmd.Dir = tmp
		return cmd.CombinedOutput()
	}
	out, err := download()
	if err != nil { // the lists of a bare machine are empty, or old
		if update, uerr := exec.Command("apt-get", "update", "-q").CombinedOutput(); uerr != nil {
			return fmt.Errorf("apt-get download %v: %w\n%s\napt-get update: %v\n%s", packages, err, out, uerr, update)
		}
		if out, err = download(); err != nil {
			return fmt.Errorf("apt-get download %v: %w\n%s", packages, err, out)
		}
	}
	debs, _ := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if len(debs) != len(packages) {
		return fmt.Errorf("apt-get download %v made %v", packages, debs)
	}
	root := filepath.Join(tmp, "root")
	for _, deb := range debs {
		if out, err := exec.Command("dpkg", "-x", deb, root).CombinedOutput(); err != nil {
			return fmt.Errorf("dpkg -x %s: %w\n%s", deb, err, out)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Rename(root, dir)
}
