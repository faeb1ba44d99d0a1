package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"quorate.dev/quorate/cli/render"
)

func authVerb() Verb {
	return Verb{
		Use: "auth <enable or disable>", Short: "Enable or disable authentication. Use `etcdctl auth --help` to see subcommands",
		Long: "Enable or disable authentication", Group: GroupAuth, Verbs: []Verb{
			{Use: "enable", Short: "Enables authentication", Run: authEnable},
			{Use: "disable", Short: "Disables authentication", Run: func(s *Session, args []string) error {
				if len(args) != 0 {
					return Failf(ExitBadArgs, "auth disable command does not accept any arguments")
				}
				c, err := s.Client()
				if err != nil {
					return err
				}
				ctx, cancel := s.Timeout()
				defer cancel()
				if _, err := c.AuthDisable(ctx); err != nil {
					return err
				}
				s.Printf("Authentication Disabled\n")
				return nil
			}},
			{Use: "status", Short: "Returns authentication status", Run: func(s *Session, args []string) error {
				if len(args) != 0 {
					return Failf(ExitBadArgs, "auth status command does not accept any arguments")
				}
				c, err := s.Client()
				if err != nil {
					return err
				}
				ctx, cancel := s.Timeout()
				defer cancel()
				resp, err := c.AuthStatus(ctx)
				if err != nil {
					return err
				}
				return s.Print(render.AuthStatus(resp))
			}},
		},
	}
}

// authEnable makes the role root and grants it to the user root when that is all that is missing.
func authEnable(s *Session, args []string) error {
	if len(args) != 0 {
		return Failf(ExitBadArgs, "auth enable command does not accept any arguments")
	}
	c, err := s.Client()
	if err != nil {
		return err
	}
	ctx, cancel := s.Timeout()
	defer cancel()
	_, err = c.AuthEnable(ctx)
	if errors.Is(err, rpctypes.ErrRootRoleNotExist) {
		if _, err = c.RoleAdd(ctx, "root"); err != nil {
			return err
		}
		if _, err = c.UserGrantRole(ctx, "root", "root"); err != nil {
			return err
		}
		_, err = c.AuthEnable(ctx)
	}
	if err != nil {
		return err
	}
	s.Printf("Authentication Enabled\n")
	return nil
}

// userFlags are those of user add and user passwd.
type userFlags struct {
	prompt     bool // for the password; otherwise it is a line of stdin
	password   string
	noPassword bool
}

func userVerb() Verb {
	add, passwd := new(userFlags), new(userFlags)
	var detail bool
	return Verb{
		Use: "user <subcommand>", Short: "User related commands. Use `etcdctl user --help` to see subcommands", Long: "User related commands",
		Group: GroupAuth, Verbs: []Verb{
			{Use: "add <user name or user:password> [options]", Short: "Adds a new user", Run: add.add,
				Flags: func(fs *pflag.FlagSet) {
					fs.BoolVar(&add.prompt, "interactive", true, "Read password from stdin instead of interactive terminal")
					fs.StringVar(&add.password, "new-user-password", "", "Supply password from the command line flag")
					fs.BoolVar(&add.noPassword, "no-password", false, "Create a user without password (CN based auth only)")
				}},
			{Use: "delete <user name>", Short: "Deletes a user", Run: userDelete},
			{Use: "get <user name> [options]", Short: "Gets detailed information of a user",
				Flags: func(fs *pflag.FlagSet) {
					fs.BoolVar(&detail, "detail", false, "Show permissions of roles granted to the user")
				},
				Run: func(s *Session, args []string) error { return userGet(s, args, detail) }},
			{Use: "list", Short: "Lists all users", Run: userList},
			{Use: "passwd <user name> [options]", Short: "Changes password of user", Run: passwd.change,
				Flags: func(fs *pflag.FlagSet) {
					fs.BoolVar(&passwd.prompt, "interactive", true, "If true, read password from stdin instead of interactive terminal")
				}},
			{Use: "grant-role <user name> <role name>", Short: "Grants a role to a user", Run: func(s *Session, args []string) error {
				if len(args) != 2 {
					return Failf(ExitBadArgs, "user grant command requires user name and role name as its argument")
				}
				return ask(s, func(ctx context.Context, c *clientv3.Client) (*clientv3.AuthUserGrantRoleResponse, error) {
					return c.UserGrantRole(ctx, args[0], args[1])
				}, func(r *clientv3.AuthUserGrantRoleResponse) render.Result {
					return render.UserGrantRole(args[0], args[1], r)
				})
			}},
			{Use: "revoke-role <user name> <role name>", Short: "Revokes a role from a user", Run: func(s *Session, args []string) error {
				if len(args) != 2 {
					return Failf(ExitBadArgs, "user revoke-role requires user name and role name as its argument")
				}
				return ask(s, func(ctx context.Context, c *clientv3.Client) (*clientv3.AuthUserRevokeRoleResponse, error) {
					return c.UserRevokeRole(ctx, args[0], args[1])
				}, func(r *clientv3.AuthUserRevokeRoleResponse) render.Result {
					return render.UserRevokeRole(args[0], args[1], r)
				})
			}},
		},
	}
}

// ask opens a client, sends a request without a time limit, which those about users and roles do not have, and prints the answer.
func ask[R any](s *Session, send func(context.Context, *clientv3.Client) (R, error), as func(R) render.Result) error {
	c, err := s.Client()
	if err != nil {
		return err
	}
	resp, err := send(s.Context, c)
	if err != nil {
		return err
	}
	return s.Print(as(resp))
}

func (f *userFlags) add(s *Session, args []string) error {
	if len(args) != 1 {
		return Failf(ExitBadArgs, "user add command requires user name as its argument")
	}
	user, password := args[0], f.password
	if !f.noPassword && password == "" {
		name, pw, ok := strings.Cut(args[0], ":")
		switch {
		case ok && name == "":
			return Failf(ExitBadArgs, "empty user name is not allowed")
		case ok:
			user, password = name, pw
		default:
			var err error
			if password, err = f.read(s, user); err != nil {
				return err
			}
		}
	}
	if f.noPassword {
		password = ""
	}
	return ask(s, func(ctx context.Context, c *clientv3.Client) (*clientv3.AuthUserAddResponse, error) {
		return c.UserAddWithOptions(ctx, user, password, &clientv3.UserAddOptions{NoPassword: f.noPassword})
	}, func(r *clientv3.AuthUserAddResponse) render.Result { return render.UserAdd(user, r) })
}

// read asks for a new password twice, or takes the first word of stdin.
func (f *userFlags) read(s *Session, user string) (string, error) {
	if !f.prompt {
		var password string
		_, _ = fmt.Fscanf(s.stdin(), "%s", &password)
		return password, nil
	}
	first, err := s.askPassword(fmt.Sprintf("Password of %s: ", user))
	if err != nil {
		return "", Failf(ExitBadArgs, "failed to ask password: %w", err)
	}
	if first == "" {
		return "", Failf(ExitBadArgs, "empty password")
	}
	second, err := s.askPassword(fmt.Sprintf("Type password of %s again for confirmation: ", user))
	if err != nil {
		return "", Failf(ExitBadArgs, "failed to ask password: %w", err)
	}
	if first != second {
		return "", Failf(ExitBadArgs, "given passwords are different")
	}
	return first, nil
}

func (f *userFlags) change(s *Session, args []string) error {
	if len(args) != 1 {
		return Failf(ExitBadArgs, "user passwd command requires user name as its argument")
	}
	password, err := f.read(s, args[0])
	if err != nil {
		return err
	}
	return ask(s, func(ctx context.Context, c *clientv3.Client) (*clientv3.AuthUserChangePasswordResponse, error) {
		return c.UserChangePassword(ctx, args[0], password)
	}, render.UserChangePassword)
}

func userDelete(s *Session, args []string) error {
	if len(args) != 1 {
		return Failf(ExitBadArgs, "user delete command requires user name as its argument")
	}
	return ask(s, func(ctx context.Context, c *clientv3.Client) (*clientv3.AuthUserDeleteResponse, error) {
		return c.UserDelete(ctx, args[0])
	}, func(r *clientv3.AuthUserDeleteResponse) render.Result { return render.UserDelete(args[0], r) })
}

func userGet(s *Session, args []string, detail bool) error {
	if len(args) != 1 {
		return Failf(ExitBadArgs, "user get command requires user name as its argument")
	}
	c, err := s.Client()
	if err != nil {
		return err
	}
	resp, err := c.UserGet(s.Context, args[0])
	if err != nil {
		return err
	}
	if !detail {
		return s.Print(render.UserGet(args[0], resp))
	}
	s.Printf("User: %s\n", args[0])
	for _, role := range resp.Roles {
		s.Printf("\n")
		r, err := c.RoleGet(s.Context, role)
		if err != nil {
			return err
		}
		if err := s.Print(render.RoleGet(role, r)); err != nil {
			return err
		}
	}
	return nil
}

func userList(s *Session, args []string) error {
	if len(args) != 0 {
		return Failf(ExitBadArgs, "user list command requires no arguments")
	}
	return ask(s, func(ctx context.Context, c *clientv3.Client) (*clientv3.AuthUserListResponse, error) {
		return c.UserList(ctx)
	}, render.UserList)
}
