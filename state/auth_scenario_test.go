package state_test

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/state"
	"quorate.dev/quorate/wire"
)

// parseAuth reads the commands of authentication:
//
//	as USER REVISION COMMAND     the command in the name of a user
//	enable    disable    authenticate USER TOKEN
//	user add|delete|password|grant|revoke|get NAME [HASH|ROLE] [nopassword]
//	role add|delete|grant|revoke|get NAME [read|write|readwrite] [KEY [END]]
//
// END is + for all keys from KEY on.
func parseAuth(verb, rest string) (command.Command, error) {
	f := split(rest)
	first := wire.AuthNames{First: f.word(0)}
	switch verb {
	case "as":
		parts := strings.SplitN(rest, " ", 3)
		c, err := parse(parts[2])
		if err != nil {
			return c, err
		}
		c.Username = parts[0]
		c.AuthRevision, err = strconv.ParseUint(parts[1], 10, 64)
		return c, err
	case "enable":
		return command.Command{Kind: command.AuthEnable}, nil
	case "disable":
		return command.Command{Kind: command.AuthDisable}, nil
	case "authenticate":
		first.Third = f.word(1)
		return cmd(command.Authenticate, &first), nil
	case "user":
		return parseUser(f)
	case "role":
		return parseRole(f)
	}
	return command.Command{}, fmt.Errorf("unknown command")
}

func parseUser(f *fields) (command.Command, error) {
	name, arg := string(f.bytes(1)), f.word(2)
	hash := base64.StdEncoding.EncodeToString([]byte(arg))
	switch f.word(0) {
	case "add":
		r := &wire.AuthUserAddRequest{Name: name, HashedPassword: hash}
		if arg == "nopassword" {
			r.HashedPassword, r.Options = "", &wire.AuthUserOptions{NoPassword: true}
		}
		return cmd(command.AuthUserAdd, r), nil
	case "delete":
		return cmd(command.AuthUserDelete, &wire.AuthNames{First: name}), nil
	case "password":
		return cmd(command.AuthUserChangePassword, &wire.AuthNames{First: name, Third: hash}), nil
	case "grant":
		return cmd(command.AuthUserGrantRole, &wire.AuthNames{First: name, Second: arg}), nil
	case "revoke":
		return cmd(command.AuthUserRevokeRole, &wire.AuthNames{First: name, Second: arg}), nil
	case "get":
		return cmd(command.AuthUserGet, &wire.AuthNames{First: name}), nil
	case "list":
		return command.Command{Kind: command.AuthUserList}, nil
	}
	return command.Command{}, fmt.Errorf("unknown command")
}

func parseRole(f *fields) (command.Command, error) {
	name := string(f.bytes(1))
	switch f.word(0) {
	case "add":
		return cmd(command.AuthRoleAdd, &wire.AuthNames{First: name}), nil
	case "delete":
		return cmd(command.AuthRoleDelete, &wire.AuthNames{First: name}), nil
	case "grant":
		r := &wire.AuthRoleGrantPermissionRequest{Name: name}
		if kind, ok := map[string]wire.AuthPermissionType{"read": wire.AuthRead, "write": wire.AuthWrite, "readwrite": wire.AuthReadWrite}[f.word(2)]; ok {
			r.Perm = &wire.AuthPermission{Type: kind, Key: f.bytes(3), RangeEnd: f.bytes(4)}
		}
		return cmd(command.AuthRoleGrantPermission, r), nil
	case "revoke":
		return cmd(command.AuthRoleRevokePermission, &wire.AuthRoleRevokePermissionRequest{Role: name, Key: f.bytes(2), RangeEnd: f.bytes(3)}), nil
	case "get":
		return cmd(command.AuthRoleGet, &wire.AuthNames{First: name}), nil
	}
	return command.Command{}, fmt.Errorf("unknown command")
}

// showAuth prints the authentication state, nothing when it was never changed.
func showAuth(t testing.TB, v *state.View, out *strings.Builder) {
	t.Helper()
	a := v.Auth
	if a.Revision() == 1 && !a.Enabled() {
		return
	}
	fmt.Fprintf(out, "auth enabled %t revision %d hash %08x\n", a.Enabled(), a.Revision(), a.Hash())
	for _, name := range a.Users() {
		u, ok := a.User(name)
		require.True(t, ok)
		fmt.Fprintf(out, "user %s hash %q nopassword %t roles %q\n", u.Name, u.PasswordHash, u.NoPassword, u.Roles)
	}
	for _, name := range a.Roles() {
		r, ok := a.Role(name)
		require.True(t, ok)
		fmt.Fprintf(out, "role %s", r.Name)
		for _, p := range r.Permissions {
			fmt.Fprintf(out, " %s %q..%q", [...]string{"read", "write", "readwrite"}[p.Type], p.Key, p.RangeEnd)
		}
		out.WriteString("\n")
	}
}

func showAuthChange(c state.AuthChange) string {
	switch c.Kind {
	case state.TokenAssigned:
		return fmt.Sprintf("token %s.%d is %s\n", c.Token, c.Index, c.User)
	case state.UserDropped:
		return fmt.Sprintf("user %s dropped\n", c.User)
	case state.AuthDisabled:
		return "auth disabled\n"
	}
	return fmt.Sprintf("unknown change %d\n", c.Kind)
}
