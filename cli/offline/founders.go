package offline

import (
	"context"

	"go.uber.org/zap"

	"quorate.dev/quorate/cli"
	"quorate.dev/quorate/member"
)

// NewCluster is what the flags of "snapshot restore" say of the cluster that a new data directory begins.
type NewCluster struct {
	Name     string // of this member
	PeerURLs string // of this member, comma separated
	Cluster  string // name=url,...; "" is this member alone
	Token    string
}

// Defaults are those of the flags.
func Defaults() NewCluster {
	return NewCluster{Name: defaultName, PeerURLs: defaultPeerURLs, Token: "etcd-cluster"}
}

// Members checks the flags, asking DNS where names and addresses are mixed, and returns this member and all of them.
func (n NewCluster) Members(ctx context.Context) (self member.Member, all []member.Member, err error) {
	t := newTool(cli.Process{Context: ctx}, true)
	f := &restoreFlags{cluster: n.Cluster, token: n.Token, peerURLs: n.PeerURLs, name: n.Name}
	t.complete(f)
	who, err := t.founders(ctx, f, zap.NewNop())
	if err != nil {
		return self, nil, err
	}
	for _, m := range who.members {
		if m.ID == who.self {
			self = m
		}
	}
	return self, who.members, nil
}
