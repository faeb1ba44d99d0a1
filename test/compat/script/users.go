package script

import (
	"context"
	"fmt"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/metadata"

	"quorate.dev/quorate/test/compat/diff"
)

// users is in whose name a case calls. Tokens are random, so they are kept here and not compared.
type users struct {
	name   string            // whose token goes with every call; "" for nobody
	tokens map[string]string // by name
}

// statement runs the statements about users:
//
//	login NAME PASSWORD   asks for a token; the answer is compared but for the token
//	as NAME               calls and streams from here on have that token; "as nobody" have none
//	token NAME TEXT       makes up a token
//	keep OTHER NAME       keeps the token of NAME under another name
func (u *users) statement(ctx context.Context, r *runner, verb, rest string) ([]diff.Fact, error) {
	name, text, _ := strings.Cut(rest, " ")
	if u.tokens == nil {
		u.tokens = map[string]string{}
	}
	switch verb {
	case "as":
		u.name = name
		if name == "nobody" {
			u.name = ""
		} else if u.tokens[name] == "" {
			return nil, fmt.Errorf("%q has not logged in", name)
		}
		return nil, nil
	case "token":
		u.tokens[name] = text
		return nil, nil
	case "keep":
		u.tokens[name] = u.tokens[text]
		return nil, nil
	}
	ctx, cancel := r.callContext(ctx)
	defer cancel()
	resp, err := pb.NewAuthClient(r.target.Conn).Authenticate(ctx, &pb.AuthenticateRequest{Name: name, Password: text})
	if err == nil {
		u.tokens[name] = resp.Token
		resp.Token = "(its length is not compared)"
	}
	return r.record(answer{method: "Authenticate", msg: resp, err: err}), nil
}

// context adds the token to a call.
func (u *users) context(ctx context.Context) context.Context {
	if u.name == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "token", u.tokens[u.name])
}
