package tools

// Difference is a behaviour in which our tools, or our server as the tools show it, depart from etcd's on purpose. A script names
// it before the command line that shows it; one that does not show is a failure.
type Difference struct {
	Name   string // as scripts refer to it
	Row    string // id of its row in docs/COMPAT.md
	Reason string
}

// Known lists all allowed differences.
var Known = []Difference{
	{"ctl-stty", "ctl-stty", "asking for a password without a terminal, etcdctl shows two complaints of the program stty"},
	{"ctl-progress", "ctl-progress", "etcdctl draws progress bars into pipes and files"},
	{"ctl-txn-operator", "ctl-txn-operator", "etcdctl dies of a comparison with an operator that does not exist"},
	{"ctl-compares", "ctl-compares", "etcdctl dies of any comparison of leases"},
	{"tls-client-plain", "tls-client-plain", "etcd closes a connection that begins with a TLS handshake where none is expected; ours answers, so that the client's error says what is wrong"},
	{"utl-damaged", "utl-damaged", "etcdutl names what failed; ours what is damaged, and at which offset"},
	{"utl-nothing-left", "utl-nothing-left", "etcdutl leaves a directory behind when it refuses a snapshot"},
	{"utl-hashkv-reads", "utl-hashkv-reads", "etcdutl hashkv changes the file that it reads"},
	{"utl-defrag", "utl-defrag", "the two engines have other files and other sizes"},
	{"utl-migrate", "utl-migrate", "our directory is the same for every version of etcd"},
}
