package world

import (
	"errors"
	"fmt"
	"time"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/wire"
)

// Clients ask in the name of writer, who has everyone, and compact in that of the administrator.
const (
	administrator = "root"
	writer        = "ann"
	everyone      = "everyone"
)

// asker is in whose name a member proposes what a client asks for, and the revision at which its own state knows that user.
func (m *Member) asker(kind command.Kind) (user string, revision uint64) {
	switch {
	case !m.w.set.Users:
		return "", 0
	case kind == command.Compaction:
		user = administrator
	default:
		user = writer
	}
	return user, m.state.View().Auth.Revision()
}

// admin makes the users of a run and then goes on changing some, so that the authentication state is never the same for long.
type admin struct {
	w    *World
	made int   // steps of the beginning
	took bool  // from writer what she needs
	open *step // of which nobody knows yet what came of it
}

// step is one request of the administrator.
type step struct {
	kind command.Kind
	body interface{ Append(dst []byte) []byte }
}

func permission(role, key, end string) step {
	return step{command.AuthRoleGrantPermission, &wire.AuthRoleGrantPermissionRequest{Name: role,
		Perm: &wire.AuthPermission{Type: wire.AuthReadWrite, Key: []byte(key), RangeEnd: []byte(end)}}}
}

// beginning is what every run with users starts with. What writer may is one interval made of two.
var beginning = []step{
	{command.AuthUserAdd, &wire.AuthUserAddRequest{Name: administrator}},
	{command.AuthUserGrantRole, &wire.AuthNames{First: administrator, Second: administrator}},
	{command.AuthRoleAdd, &wire.AuthNames{First: everyone}},
	permission(everyone, "\x00", "k05"),
	permission(everyone, "k05", "\x00"),
	{command.AuthUserAdd, &wire.AuthUserAddRequest{Name: writer}},
	{command.AuthUserGrantRole, &wire.AuthNames{First: writer, Second: everyone}},
	{command.AuthEnable, &wire.AuthNames{}},
}

// choose makes up the next step.
func (a *admin) choose() step {
	rng := a.w.rng
	if a.made < len(beginning) {
		return beginning[a.made]
	}
	if a.took {
		return step{command.AuthUserGrantRole, &wire.AuthNames{First: writer, Second: everyone}}
	}
	other := fmt.Sprintf("u%d", rng.IntN(3))
	switch n := rng.IntN(12); {
	case n < 2 && !a.w.healed:
		return step{command.AuthUserRevokeRole, &wire.AuthNames{First: writer, Second: everyone}}
	case n < 4:
		return step{command.AuthUserAdd, &wire.AuthUserAddRequest{Name: other}}
	case n < 6:
		return step{command.AuthUserDelete, &wire.AuthNames{First: other}}
	case n < 8:
		return step{command.AuthUserGrantRole, &wire.AuthNames{First: other, Second: everyone}}
	case n < 9:
		return step{command.AuthUserChangePassword, &wire.AuthNames{First: writer}}
	case n < 10:
		return step{command.AuthDisable, &wire.AuthNames{}}
	}
	return step{command.AuthEnable, &wire.AuthNames{}}
}

// act takes the next step, and later the one after it. A step of which nobody knows what came of it is taken again.
func (a *admin) act() {
	w := a.w
	if w.quiet {
		return
	}
	if a.open == nil {
		s := a.choose()
		a.open = &s
	}
	s := *a.open
	call(w, func(m *Member, answer func(struct{}, error)) {
		m.drive.Host.ProposeAs(s.kind, s.body.Append(nil), administrator, m.state.View().Auth.Revision(), waiter(func(r *command.Result) {
			answer(struct{}{}, r.Err)
		}))
	}, func(_ struct{}, err error) {
		w.trace.note("admin", "%s: %v", s.kind, err)
		var refused *fault.Error
		known := err == nil || errors.As(err, &refused) && refused.Code == fault.CodeFailedPrecondition
		if !known {
			w.after(w.upTo(100*time.Millisecond), a.act)
			return
		}
		a.open = nil
		if a.made < len(beginning) {
			a.made++
		}
		a.took = s.kind == command.AuthUserRevokeRole
		pause := w.upTo(time.Second)
		if a.took || a.made < len(beginning) {
			pause = w.upTo(50 * time.Millisecond)
		}
		w.after(pause, a.act)
	})
}
