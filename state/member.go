package state

import (
	"quorate.dev/quorate/command"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/wire"
)

// confChange changes who is in the cluster. Its body is a raftpb.ConfChange. When it is refused, raft must be told of a change
// of no node.
func confChange(m *Machine, body []byte, _ *command.Result) error {
	change, err := m.members.ApplyConfChange(m.batch, body)
	if err != nil {
		return err
	}
	m.effects.Changes = append(m.effects.Changes, change)
	m.effects.Members = true
	return nil
}

func memberAttributes(m *Machine, body []byte, _ *command.Result) error {
	var req wire.ClusterMemberAttrSetRequest
	if err := decode(command.MemberAttributes, &req, body); err != nil {
		return err
	}
	return m.membersChanged(m.members.SetAttributes(m.batch, ids.MemberID(req.MemberID), req.Name, req.ClientURLs))
}

func (m *Machine) membersChanged(err error) error {
	m.effects.Members = m.effects.Members || err == nil
	return err
}
