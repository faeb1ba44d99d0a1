package kubernetes

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Kubeconfig writes the file with which a program reaches the API at url as user, by a certificate.
func (p *Plane) Kubeconfig(file, url, user string, groups ...string) (string, error) {
	pair, err := p.Cluster.Issue(file, user, groups...)
	if err != nil {
		return "", err
	}
	path := filepath.Join(p.Dir, file+".kubeconfig")
	return path, os.WriteFile(path, fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: cluster, cluster: {server: %q, certificate-authority: %q}}]
users: [{name: user, user: {client-certificate: %q, client-key: %q}}]
contexts: [{name: context, context: {cluster: cluster, user: user}}]
current-context: context
`, url, p.Cluster.File, pair.Cert, pair.Key), 0o600)
}

// ControllerManager starts Kubernetes' controllers, each with a service account of its own, as kubeadm does.
func (p *Plane) ControllerManager(url string, flags ...string) (*Process, error) {
	config, err := p.Kubeconfig("controller-manager", url, "system:kube-controller-manager")
	if err != nil {
		return nil, err
	}
	return p.start("kube-controller-manager", "kube-controller-manager", append([]string{"--kubeconfig=" + config, "--secure-port=0", "--root-ca-file=" + p.Cluster.File,
		"--service-account-private-key-file=" + p.accountKey, "--use-service-account-credentials", "--kube-api-qps=500", "--kube-api-burst=1000"}, flags...)...)
}

// Scheduler starts the scheduler.
func (p *Plane) Scheduler(url string, flags ...string) (*Process, error) {
	config, err := p.Kubeconfig("scheduler", url, "system:kube-scheduler")
	if err != nil {
		return nil, err
	}
	return p.start("kube-scheduler", "kube-scheduler", append([]string{"--kubeconfig=" + config, "--secure-port=0", "--kube-api-qps=500", "--kube-api-burst=1000"}, flags...)...)
}

// Nodes starts kwok, which does for nodes with the label what their machines would: it renews their leases and runs their pods by saying so.
func (p *Plane) Nodes(url, label string) (*Process, error) {
	name := "kwok-" + filepath.Base(label)
	config, err := p.Kubeconfig(name, url, name, "system:masters")
	if err != nil {
		return nil, err
	}
	stages, err := p.stages()
	if err != nil {
		return nil, err
	}
	return p.start(name, "kwok", "--config="+stages, "--kubeconfig="+config, "--manage-all-nodes=false", "--manage-nodes-with-label-selector="+label,
		"--node-lease-duration-seconds=40", "--cidr=10.244.0.0/16", "--node-ip=10.0.0.1")
}

// stages writes what kwok's module says of how nodes and pods come to be, live and end, without delays.
func (p *Plane) stages() (string, error) {
	cmd := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kwok")
	cmd.Dir = filepath.Join(here(), "programs", "kwok")
	module, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("finding kwok's module: %w", err)
	}
	var all []byte
	for _, kind := range []string{"node/fast", "node/heartbeat-with-lease", "pod/fast"} {
		files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(module)), "kustomize", "stage", filepath.FromSlash(kind), kind[:strings.Index(kind, "/")]+"-*.yaml"))
		if err != nil || files == nil {
			return "", fmt.Errorf("kwok's module has no stages of %s: %v", kind, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return "", err
			}
			all = append(append(all, "---\n"...), text...)
		}
	}
	path := filepath.Join(p.Dir, "kwok.yaml")
	return path, os.WriteFile(path, all, 0o600)
}

func (p *Plane) start(name, program string, args ...string) (*Process, error) {
	bin, err := Program(program)
	if err != nil {
		return nil, err
	}
	return StartProcess(p.Dir, name, bin, args...)
}
