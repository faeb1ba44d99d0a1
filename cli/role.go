package cli

import (
	"context"

	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"

	"quorate.dev/quorate/cli/render"
)

func roleVerb() Verb {
	grant, revoke := new(permissionFlags), new(permissionFlags)
	return Verb{
		Use: "role <subcommand>", Short: "Role related commands. Use `etcdctl role --help` to see subcommands", Long: "Role related commands",
		Group: GroupAuth, Verbs: []Verb{
			{Use: "add <role name>", Short: "Adds a new role", Run: roleAdd},
			{Use: "delete <role name>", Short: "Deletes a role", Run: roleDelete},
			{Use: "get <role name>", Short: "Gets detailed information of a role", Run: roleGet},
			{Use: "list", Short: "Lists all roles", Run: roleList},
			{Use: "grant-permission [options] <role name> <permission type> <key> [endkey]", Short: "Grants a key to a role", Run: grant.grant,
				Flags: func(fs *pflag.FlagSet) { grant.register(fs, "grant") }},
			{Use: "revoke-permission <role name> <key> [endkey]", Short: "Revokes a key from a role", Run: revoke.revoke,
				Flags: func(fs *pflag.FlagSet) { revoke.register(fs, "revoke") }},
		},
	}
}

// permissionFlags make one key many.
type permissionFlags struct{ prefix, fromKey bool }

func (f *permissionFlags) register(fs *pflag.FlagSet, what string) {
	fs.BoolVar(&f.prefix, "prefix", false, what+" a prefix permission")
	fs.BoolVar(&f.fromKey, "from-key", false, what+" a permission of keys that are greater than or equal to the given key using byte compare")
}

func roleAdd(s *Session, args []string) error {
	if len(args) != 1 {
		return Failf(ExitBadArgs, "role add command requires role name as its argument")
	}
	return ask(s, func(ctx context.Context, c *clientv3.Client) (*clientv3.AuthRoleAddResponse, error) {
		return c.RoleAdd(ctx, args[0])
	}, func(r *clientv3.AuthRoleAddResponse) render.Result { return render.RoleAdd(args[0], r) })
}

func roleDelete(s *Session, args []string) error {
	if len(args) != 1 {
		return Failf(ExitBadArgs, "role delete command requires role name as its argument")
	}
	return ask(s, func(ctx context.Context, c *clientv3.Client) (*clientv3.AuthRoleDeleteResponse, error) {
		return c.RoleDelete(ctx, args[0])
	}, func(r *clientv3.AuthRoleDeleteResponse) render.Result { return render.RoleDelete(args[0], r) })
}

func roleGet(s *Session, args []string) error {
	if len(args) != 1 {
		return Failf(ExitBadArgs, "role get command requires role name as its argument")
	}
	return ask(s, func(ctx context.Context, c *clientv3.Client) (*clientv3.AuthRoleGetResponse, error) {
		return c.RoleGet(ctx, args[0])
	}, func(r *clientv3.AuthRoleGetResponse) render.Result { return render.RoleGet(args[0], r) })
}

func roleList(s *Session, args []string) error {
	if len(args) != 0 {
		return Failf(ExitBadArgs, "role list command requires no arguments")
	}
	return ask(s, func(ctx context.Context, c *clientv3.Client) (*clientv3.AuthRoleListResponse, error) {
		return c.RoleList(ctx)
	}, render.RoleList)
}

func (f *permissionFlags) grant(s *Session, args []string) error {
	if len(args) < 3 {
		return Failf(ExitBadArgs, "role grant command requires role name, permission type, and key [endkey] as its argument")
	}
	kind, err := clientv3.StrToPermissionType(args[1])
	if err != nil {
		return Fail(ExitBadArgs, err)
	}
	key, end, err := f.span(args[2:])
	if err != nil {
		return err
	}
	return ask(s, func(ctx context.Context, c *clientv3.Client) (*clientv3.AuthRoleGrantPermissionResponse, error) {
		return c.RoleGrantPermission(ctx, args[0], key, end, kind)
	}, func(r *clientv3.AuthRoleGrantPermissionResponse) render.Result {
		return render.RoleGrantPermission(args[0], r)
	})
}

func (f *permissionFlags) revoke(s *Session, args []string) error {
	if len(args) < 2 {
		return Failf(ExitBadArgs, "role revoke-permission command requires role name and key [endkey] as its argument")
	}
	key, end, err := f.span(args[1:])
	if err != nil {
		return err
	}
	return ask(s, func(ctx context.Context, c *clientv3.Client) (*clientv3.AuthRoleRevokePermissionResponse, error) {
		return c.RoleRevokePermission(ctx, args[0], key, end)
	}, func(r *clientv3.AuthRoleRevokePermissionResponse) render.Result {
		return render.RoleRevokePermission(args[0], args[1], end, r)
	})
}

// openEnd is the end of a range that has none.
const openEnd = "\x00"

// span is the range of a permission. The empty key stands for the smallest one, with a flag for all of them.
func (f *permissionFlags) span(args []string) (key, end string, err error) {
	both := Failf(ExitBadArgs, "--from-key and --prefix flags are mutually exclusive")
	if args[0] == "" {
		if f.prefix && f.fromKey {
			return "", "", both
		}
		if f.prefix || f.fromKey {
			end = openEnd
		}
		return openEnd, end, nil
	}
	key = args[0]
	switch {
	case len(args) > 1 && f.prefix:
		return "", "", Failf(ExitBadArgs, "unexpected endkey argument with --prefix flag")
	case len(args) > 1 && f.fromKey:
		return "", "", Failf(ExitBadArgs, "unexpected endkey argument with --from-key flag")
	case len(args) > 1:
		return key, args[1], nil
	case f.prefix && f.fromKey:
		return "", "", both
	case f.prefix:
		return key, clientv3.GetPrefixRangeEnd(key), nil
	case f.fromKey:
		return key, openEnd, nil
	}
	return key, "", nil
}
