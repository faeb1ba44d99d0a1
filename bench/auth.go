package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
)

// The gRPC methods of users and roles that are called.
const (
	methodAuthenticate = "/etcdserverpb.Auth/Authenticate"
	methodAuthStatus   = "/etcdserverpb.Auth/AuthStatus"
	methodAuthEnable   = "/etcdserverpb.Auth/AuthEnable"
	methodUserAdd      = "/etcdserverpb.Auth/UserAdd"
	methodUserGrant    = "/etcdserverpb.Auth/UserGrantRole"
	methodRoleAdd      = "/etcdserverpb.Auth/RoleAdd"
	methodRoleGrant    = "/etcdserverpb.Auth/RoleGrantPermission"
)

const (
	users    = 50 // with a password each
	logins   = 50 // concurrent clients that authenticate, a connection each
	guessers = 50 // concurrent clients with wrong passwords, a connection each
	userRole = "bench"
	rootName = "root" // of the user and of the role, as etcd wants it
)

func userName(i int64) string { return fmt.Sprintf("user%02d", i) }

func password(i int64) string { return fmt.Sprintf("the right one of %02d", i) }

// strs encodes a message of strings, from field 1 on.
func strs(values ...string) []byte {
	var b []byte
	for i, v := range values {
		b = appendBytes(b, protowire.Number(i+1), []byte(v))
	}
	return b
}

// grantRequest encodes the permission to read and write [key, end); end empty: key alone.
func grantRequest(role, key, end string) []byte {
	const readWrite = 2
	perm := appendBytes(appendInt(nil, 1, readWrite), 2, []byte(key))
	if end != "" {
		perm = appendBytes(perm, 3, []byte(end))
	}
	return appendBytes(strs(role), 2, perm)
}

// userRequest encodes the i-th user; without a password it has a certificate.
func userRequest(i int64, withPassword bool) []byte {
	if withPassword {
		return strs(userName(i), password(i))
	}
	return appendBytes(strs(userName(i)), 3, appendInt(nil, 1, 1))
}

// addUsers adds n users of a role that may use the keys under bench/ and the one that connections are tried with, and
// switches authentication on. Without passwords they have certificates.
func (w *workbench) addUsers(n int64, passwords bool) error {
	cs, err := w.s.connect(1)
	if err != nil {
		return err
	}
	defer cs.close()
	c, patient := newCaller(cs[0], 0), bounded(time.Minute)
	for _, step := range []struct {
		method  string
		request []byte
	}{
		{methodRoleAdd, strs(rootName)},
		{methodUserAdd, strs(rootName, "its password")},
		{methodUserGrant, strs(rootName, rootName)},
		{methodRoleAdd, strs(userRole)},
		{methodRoleGrant, grantRequest(userRole, "bench/", "bench0")},
		{methodRoleGrant, grantRequest(userRole, probeKey, "")},
	} {
		if err := c.exchange(patient, step.method, step.request); err != nil {
			return fmt.Errorf("%s: %w", step.method, err)
		}
	}
	add := func(c *caller, l limit, i int64) error {
		if err := c.exchange(l, methodUserAdd, userRequest(i, passwords)); err != nil {
			return err
		}
		return c.exchange(l, methodUserGrant, strs(userName(i), userRole))
	}
	const adders = 8
	if _, err := w.s.drive(cs, &workload{clients: adders, total: n, limit: patient, op: add}); err != nil {
		return fmt.Errorf("adding users: %w", err)
	}
	return c.exchange(patient, methodAuthEnable, nil)
}

// withPasswords prepares the suite of passwords and tokens.
func (w *workbench) withPasswords() error {
	if err := w.fillBasic(); err != nil {
		return err
	}
	return w.addUsers(users, true)
}

// withCertificates prepares the suite in which the user is the common name of the client's certificate.
func (w *workbench) withCertificates() error {
	if err := w.fillBasic(); err != nil {
		return err
	}
	if err := w.addUsers(1, false); err != nil {
		return err
	}
	return w.confined()
}

// confined sees to it that what follows is measured as a user who may not do everything.
func (w *workbench) confined() error {
	cs, err := w.s.connect(1)
	if err != nil {
		return err
	}
	defer cs.close()
	err = newCaller(cs[0], 0).put(bounded(time.Minute), []byte("not under bench/"), nil)
	if status.Code(err) != codes.PermissionDenied {
		return fmt.Errorf("a put outside of the user's permission was answered with %v, want PermissionDenied", err)
	}
	return nil
}

// login authenticates.
func (c *caller) login(l limit, name, password string) error {
	return c.exchange(l, methodAuthenticate, strs(name, password))
}

// strangers opens connections of nobody, to a server that may want to know who asks.
func (w *workbench) strangers(n int) (conns, error) {
	var out conns
	for range n {
		conn, err := dial(w.s.members[0].addr, &access{tls: w.s.access.tls})
		if err != nil {
			return out, err
		}
		out = append(out, conn)
		if err := newCaller(conn, 0).exchange(bounded(10*time.Second), methodAuthStatus, nil); err != nil {
			out.close()
			return nil, err
		}
	}
	return out, nil
}

// right is the login of one user after the other.
func right(c *caller, l limit, i int64) error {
	if err := c.login(l, userName(i%users), password(i%users)); err != nil {
		return err
	}
	_, token, err := inner(c.reply.b, 2)
	if err == nil && len(token) == 0 {
		err = errors.New("an Authenticate was answered without a token")
	}
	return err
}

// wrong is a login with a password that nobody has and nobody tried before.
func wrong(c *caller, l limit, i int64) error {
	err := c.login(l, userName(i%users), fmt.Sprintf("guess %d", i))
	switch {
	case err == nil:
		return errors.New("a wrong password was accepted")
	case status.Code(err) == codes.InvalidArgument && strings.Contains(err.Error(), "authentication failed"):
		return nil
	}
	return err
}

func (w *workbench) authenticate(load *workload) (*result, error) {
	cs, err := w.strangers(logins)
	if err != nil {
		return nil, err
	}
	defer cs.close()
	load.clients, load.op = logins, right
	return figuresOf(w.s.drive(cs, load))
}

func (w *workbench) firstLogins() (*result, error) { return w.authenticate(&workload{total: users}) }

func (w *workbench) repeatLogins() (*result, error) {
	return w.authenticate(&workload{d: w.sizes.timed()})
}

// asUser runs the job with the token of a user that is not root.
func asUser(run func(*workbench) (*result, error)) func(*workbench) (*result, error) {
	return func(w *workbench) (*result, error) {
		cs, err := w.strangers(1)
		if err != nil {
			return nil, err
		}
		c := newCaller(cs[0], 0)
		err = right(c, bounded(time.Minute), 0)
		cs.close()
		if err != nil {
			return nil, fmt.Errorf("authenticating: %w", err)
		}
		_, token, err := inner(c.reply.b, 2)
		if err != nil {
			return nil, err
		}
		nobody := *w.s.access
		defer func() { *w.s.access = nobody }()
		w.s.access.token, w.s.access.lean = string(token), []string{"--user", userName(0) + ":" + password(0)}
		if err := w.confined(); err != nil {
			return nil, err
		}
		return run(w)
	}
}

// wrongPasswords compares the p99 of puts alone with that beside clients that try wrong passwords as fast as they are answered.
func (w *workbench) wrongPasswords() (*result, error) {
	cs, err := w.s.connect(steadyConns)
	if err != nil {
		return nil, err
	}
	defer cs.close()
	strangers, err := w.strangers(guessers)
	if err != nil {
		return nil, err
	}
	defer strangers.close()
	d := w.sizes.timed()
	quiet, err := w.steadyPuts(cs, putOf(value256()), d, false)
	if err != nil {
		return nil, err
	}
	stop := make(chan struct{})
	type ran struct {
		o   *outcome
		err error
	}
	flooded := make(chan ran, 1)
	go func() {
		o, err := w.s.drive(strangers, &workload{clients: guessers, d: time.Hour, limit: bounded(time.Minute), crowded: true, stop: stop, op: wrong})
		flooded <- ran{o, err}
	}()
	const warm = 500 * time.Millisecond
	time.Sleep(warm)
	loaded, err := w.steadyPuts(cs, putOf(value256()), d, true)
	close(stop)
	flood := <-flooded
	if err = errors.Join(err, flood.err); err != nil {
		return nil, err
	}
	if flood.o.count(answered) == 0 {
		return nil, errors.New("no wrong password was answered, so there was no flood")
	}
	r := newResult().set("quiet p99", p99(quiet, nil)).set("loaded p99", p99(loaded, nil))
	r.set("loaded / quiet", p99(loaded, nil)/p99(quiet, nil)).set("refused", loaded.share(refused)).set("failed", loaded.share(late))
	return r.set("guesses", float64(flood.o.count(answered))/flood.o.took.Seconds()), nil
}
