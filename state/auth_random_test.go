package state_test

import (
	"fmt"
	"math/rand/v2"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/wire"
)

// mustParse reads commands that are known to be good.
func mustParse(list ...string) []command.Command {
	var log []command.Command
	for _, line := range list {
		c, err := parse(line)
		if err != nil {
			panic(fmt.Sprintf("%s: %v", line, err))
		}
		log = append(log, c)
	}
	return log
}

// randomAuthLog is a random log of a store of which users and roles change all the time, mostly while authentication is
// enabled, and whose commands come in various names.
func randomAuthLog(r *rand.Rand, n int) []command.Command {
	g := generator{r}
	log := mustParse("user add root x", "user grant root root", "role add r0", "role grant r0 readwrite k00 k20", "user add u0 x",
		"user grant u0 r0", "enable")
	for i := len(log); i < n; i++ {
		c := g.command(i)
		if r.IntN(6) == 0 {
			c = g.authCommand()
		}
		switch r.IntN(10) {
		case 0, 1, 2, 3:
			c.Username, c.AuthRevision = "root", 1<<40
		case 4, 5, 6, 7:
			c.Username, c.AuthRevision = g.user(), 1<<40
		case 8:
			c.Username, c.AuthRevision = g.user(), g.Uint64N(uint64(i))
		}
		log = append(log, c)
	}
	return number(1, 1, log)
}

func (g generator) user() string { return fmt.Sprintf("u%d", g.IntN(4)) }
func (g generator) role() string { return fmt.Sprintf("r%d", g.IntN(4)) }

func (g generator) authCommand() command.Command {
	names := &wire.AuthNames{First: g.user()}
	switch n := g.IntN(100); {
	case n < 10:
		r := &wire.AuthUserAddRequest{Name: g.user(), HashedPassword: "eA=="}
		if n == 0 {
			r.HashedPassword = "?"
		}
		if n < 3 {
			r.Options = &wire.AuthUserOptions{NoPassword: n == 1}
		}
		return cmd(command.AuthUserAdd, r)
	case n < 13:
		return cmd(command.AuthUserDelete, names)
	case n < 18:
		names.Third = "eQ=="
		return cmd(command.AuthUserChangePassword, names)
	case n < 33:
		names.Second = g.role()
		return cmd(command.AuthUserGrantRole, names)
	case n < 38:
		names.Second = g.role()
		return cmd(command.AuthUserRevokeRole, names)
	case n < 46:
		names.First = g.role()
		return cmd(command.AuthRoleAdd, names)
	case n < 49:
		names.First = g.role()
		return cmd(command.AuthRoleDelete, names)
	case n < 74:
		return cmd(command.AuthRoleGrantPermission, &wire.AuthRoleGrantPermissionRequest{Name: g.role(),
			Perm: &wire.AuthPermission{Type: wire.AuthPermissionType(g.IntN(3)), Key: g.key(), RangeEnd: g.end()}})
	case n < 80:
		return cmd(command.AuthRoleRevokePermission, &wire.AuthRoleRevokePermissionRequest{Role: g.role(), Key: g.key(), RangeEnd: g.end()})
	case n < 82:
		return command.Command{Kind: command.AuthDisable}
	case n < 88:
		return command.Command{Kind: command.AuthEnable}
	case n < 95:
		names.Third = fmt.Sprintf("token%d", g.IntN(1000))
		return cmd(command.Authenticate, names)
	}
	return cmd(command.AuthStatus+command.Kind(g.IntN(5)), names)
}
