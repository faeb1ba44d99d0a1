package node_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/command"
)

// TestProposeAs: the name and revision of who asks reach the state machine of whatever command they were proposed with.
func TestProposeAs(t *testing.T) {
	m := newMember(t).start().lead()
	answers := make([]*answer, 5)
	for i := range answers {
		answers[i] = wait(t)
	}
	m.host.ProposeAs(command.Put, []byte("a"), "ann", 7, answers[0])
	m.host.ProposeMessageAs(command.DeleteRange, message("b"), "bob", 8, answers[1])
	m.host.ProposeAs(command.Put, []byte("c"), "bob", 9, answers[2])
	m.host.ProposeAs(command.Put, []byte("d"), "", 0, answers[3])
	m.host.Propose(command.Put, []byte("e"), answers[4])
	for _, a := range answers {
		require.NoError(t, a.get().Err)
	}
	type asked struct {
		kind     command.Kind
		body     string
		user     string
		revision uint64
	}
	var got []asked
	for _, c := range m.machine.commands() {
		if len(c.Body) > 0 && c.Kind != command.ConfChange {
			got = append(got, asked{c.Kind, string(c.Body), c.Username, c.AuthRevision})
		}
	}
	require.Equal(t, []asked{{command.Put, "a", "ann", 7}, {command.DeleteRange, "b", "bob", 8}, {command.Put, "c", "bob", 9}, {command.Put, "d", "", 0},
		{command.Put, "e", "", 0}}, got)
}
