package kubernetes

import (
	"fmt"
	"os"
	"path/filepath"
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
	empty := filepath.Join(p.Dir, "kwok.yaml") // not that of who runs the test
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		return nil, err
	}
	return p.start(name, "kwok", "--config="+empty, "--kubeconfig="+config, "--manage-all-nodes=false", "--manage-nodes-with-label-selector="+label,
		"--node-lease-duration-seconds=40", "--cidr=10.244.0.0/16", "--node-ip=10.0.0.1")
}

func (p *Plane) start(name, program string, args ...string) (*Process, error) {
	bin, err := Program(program)
	if err != nil {
		return nil, err
	}
	return StartProcess(p.Dir, name, bin, args...)
}
