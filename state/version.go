package state

import (
	"quorate.dev/quorate/command"
	"quorate.dev/quorate/v2store"
	"quorate.dev/quorate/wire"
)

func clusterVersion(m *Machine, body []byte, _ *command.Result) error {
	var req wire.ClusterVersionSetRequest
	if err := decode(command.ClusterVersion, &req, body); err != nil {
		return err
	}
	return m.membersChanged(v2store.VersionSet, m.members.SetVersion(m.batch, req.Ver))
}

func downgradeInfo(m *Machine, body []byte, _ *command.Result) error {
	var req wire.DowngradeInfoSetRequest
	if err := decode(command.DowngradeInfo, &req, body); err != nil {
		return err
	}
	return m.membersChanged(0, m.members.SetDowngrade(m.batch, req.Enabled, req.Ver))
}
