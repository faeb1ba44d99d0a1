package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"quorate.dev/quorate/config"
)

const deployDir = "../../deploy/"

func readDeploy(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(deployDir + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// flagsOf finds what looks like a flag of the server in a text, with its value after "=".
func flagsOf(text string) [][]string {
	return regexp.MustCompile(`(?:^|["'\s])--([a-z][a-z0-9-]*)(?:=([^"'\s]*))?`).FindAllStringSubmatch(text, -1)
}

// TestDeployFlags: every flag in the files of deploy/ is a setting with such a value, or one of the verb it stands after.
func TestDeployFlags(t *testing.T) {
	known := map[string]config.Setting{}
	for _, s := range config.Settings() {
		if !s.NoFlag {
			known[s.Name] = s
		}
	}
	// Of docker, kubectl, go and useradd, and of probe.
	others := []string{"from", "interval", "timeout", "start-period", "retries", "cacert", "system", "home-dir", "shell", "now", "bump-revision", "mark-compacted"}
	seen := 0
	err := fs.WalkDir(os.DirFS(deployDir), ".", func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && path == "switchover" {
			return fs.SkipDir // flags of many programs; test/kubernetes/switchover runs what is in there
		}
		if err != nil || d.IsDir() {
			return err
		}
		for _, f := range flagsOf(readDeploy(t, path)) {
			s, ok := known[f[1]]
			switch {
			case !ok && !slices.Contains(others, f[1]):
				t.Errorf("%s: there is no setting --%s", path, f[1])
			case ok && s.State == config.Refused, ok && s.State == config.Historical:
				t.Errorf("%s: --%s is %s", path, f[1], s.State)
			case ok:
				seen++
				if err := config.New().Set(f[1], f[2]); err != nil && f[2] != "" {
					t.Errorf("%s: %v", path, err)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 20 {
		t.Errorf("only %d flags were found", seen)
	}
}

// TestDeployConfig: the file for the unit is right, and so are the lines in it that are commented out, but for the certificates that
// are not here.
func TestDeployConfig(t *testing.T) {
	text := readDeploy(t, "quorate.yaml")
	if problems := config.Check([]byte(text), os.ReadFile, time.Now()); len(problems) > 0 {
		t.Errorf("%+v", problems)
	}
	var all strings.Builder
	for line := range strings.Lines(text) {
		all.WriteString(strings.TrimPrefix(line, "# "))
	}
	for _, p := range config.Check([]byte(all.String()), os.ReadFile, time.Now()) {
		if !strings.Contains(p.Text, "no such file") && !strings.Contains(p.Text, "scheme is http or unix") {
			t.Errorf("uncommented: %+v", p)
		}
	}
}

// TestStaticPod: the manifest parses, and a server would take its command line.
func TestStaticPod(t *testing.T) {
	type mount struct{ Name, MountPath string }
	var pod struct {
		APIVersion, Kind string
		Metadata         struct{ Name, Namespace string }
		Spec             struct {
			HostNetwork bool
			Containers  []struct {
				Name, Image                                 string
				Command                                     []string
				LivenessProbe, ReadinessProbe, StartupProbe struct {
					HTTPGet struct{ Host, Path, Scheme string }
				}
				Resources    struct{ Requests map[string]string }
				VolumeMounts []mount
			}
			Volumes []struct {
				Name     string
				HostPath struct{ Path string }
			}
		}
	}
	if err := yaml.Unmarshal([]byte(readDeploy(t, "static-pod.yaml")), &pod); err != nil {
		t.Fatal(err)
	}
	if pod.APIVersion != "v1" || pod.Kind != "Pod" || pod.Metadata.Name != "etcd" || pod.Metadata.Namespace != "kube-system" || !pod.Spec.HostNetwork || len(pod.Spec.Containers) != 1 {
		t.Fatalf("%+v", pod)
	}
	c := pod.Spec.Containers[0]
	if c.LivenessProbe.HTTPGet.Path != "/livez" || c.ReadinessProbe.HTTPGet.Path != "/readyz" || c.StartupProbe.HTTPGet.Path != "/readyz" || c.Resources.Requests["memory"] == "" {
		t.Errorf("%+v", c)
	}
	mounted := map[string]string{}
	for _, m := range c.VolumeMounts {
		mounted[m.Name] = m.MountPath
	}
	for _, v := range pod.Spec.Volumes {
		if mounted[v.Name] != v.HostPath.Path {
			t.Errorf("volume %s is %s and is mounted at %s", v.Name, v.HostPath.Path, mounted[v.Name])
		}
	}
	loaded, err := config.Load(config.Source{Program: "etcd", Args: c.Command[1:]})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range loaded.Notes {
		if n.Warn {
			t.Errorf("a start warns: %s %v", n.Message, n.Fields)
		}
	}
	if err := loaded.Config.CheckFounding(); err != nil {
		t.Error(err)
	}
	for _, file := range []string{loaded.Config.TLS.Client.Cert, loaded.Config.TLS.Peer.CA, loaded.Config.Member.DataDir} {
		if !slices.ContainsFunc(c.VolumeMounts, func(m mount) bool { return file == m.MountPath || strings.HasPrefix(file, m.MountPath+"/") }) {
			t.Errorf("%s is on no volume", file)
		}
	}
}

// TestProbe: only status 200 is well.
func TestProbe(t *testing.T) {
	status := http.StatusOK
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte("said\n"))
	}))
	defer s.Close()
	var out bytes.Buffer
	p := probe{timeout: time.Minute}
	if err := p.ask(context.Background(), s.URL, &out); err != nil || out.String() != "said\n" {
		t.Errorf("%q %v", out.String(), err)
	}
	status = http.StatusServiceUnavailable
	if err := p.ask(context.Background(), s.URL, &out); err == nil || !strings.Contains(err.Error(), "503 Service Unavailable: said") {
		t.Error(err)
	}
	s.Close()
	if err := p.ask(context.Background(), s.URL, &out); err == nil {
		t.Error("a server that is gone is well")
	}
	p.ca = "/nonexistent"
	if err := p.ask(context.Background(), s.URL, &out); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
