package load

import (
	"fmt"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// credentials is an AuthenticateRequest.
type credentials struct{ name, password string }

func (c credentials) encode() []byte {
	b, err := proto.Marshal(&etcdserverpb.AuthenticateRequest{Name: c.name, Password: c.password})
	if err != nil {
		return nil // a name that is not UTF-8: the server refuses an empty one
	}
	return b
}

// Size implements lean.Message.
func (c credentials) Size() int { return len(c.encode()) }

// Append implements lean.Message.
func (c credentials) Append(dst []byte) []byte { return append(dst, c.encode()...) }

func tokenOf(body []byte) (string, error) {
	var resp etcdserverpb.AuthenticateResponse
	if err := proto.Unmarshal(body, &resp); err != nil {
		return "", fmt.Errorf("the answer to Authenticate: %w", err)
	}
	return resp.Token, nil
}
