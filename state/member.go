package state

import (
	"quorate.dev/quorate/command"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/v2store"
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
	m.clusterChanged(ofMembers[change.Kind])
	return nil
}

func memberAttributes(m *Machine, body []byte, _ *command.Result) error {
	var req wire.ClusterMemberAttrSetRequest
	if err := decode(command.MemberAttributes, &req, body); err != nil {
		return err
	}
	return m.membersChanged(v2store.MemberPublished, m.members.SetAttributes(m.batch, ids.MemberID(req.MemberID), req.Name, req.ClientURLs))
}

// membersChanged notes a change that was not refused. what is 0 for one that the v2 tree does not count.
func (m *Machine) membersChanged(what v2store.ClusterChange, err error) error {
	if err == nil {
		m.effects.Members = true
		m.clusterChanged(what)
	}
	return err
}
