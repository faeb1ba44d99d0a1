package cli

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"quorate.dev/quorate/limits"
)

// completeKeys lets the shell complete keys from the server: up to the next slash, as it does with files. It asks no
// passwords and says nothing when the server does not answer soon.
func (t *Tool) completeKeys(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	const none = cobra.ShellCompDirectiveNoFileComp
	if c.Name() == "put" && len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault // the value may come from anywhere
	}
	if len(args) > 1 {
		return nil, none
	}
	s := t.session(c, false)
	quiet := *s.Process
	quiet.Stderr, quiet.Stdin, quiet.Stdout = io.Discard, strings.NewReader(""), io.Discard
	s.Process = &quiet
	defer s.close()
	client, err := s.Client()
	if err != nil {
		return nil, none
	}
	ctx, cancel := context.WithTimeout(s.Context, limits.CompletionTime)
	defer cancel()
	found := nextNames(ctx, client, typed)
	directive := none
	for _, f := range found {
		if strings.HasSuffix(f, "/") {
			directive |= cobra.ShellCompDirectiveNoSpace
		}
	}
	return found, directive
}

// nextNames finds what may follow a prefix: keys, and for deeper ones what they have in common up to the next slash. Each
// costs one request for one key.
func nextNames(ctx context.Context, c *clientv3.Client, prefix string) (found []string) {
	end := clientv3.GetPrefixRangeEnd(prefix)
	start := prefix
	if start == "" {
		start, end = openEnd, openEnd
	}
	for len(found) < limits.Completions {
		resp, err := c.Get(ctx, start, clientv3.WithRange(end), clientv3.WithKeysOnly(), clientv3.WithLimit(1), clientv3.WithSerializable())
		if err != nil || len(resp.Kvs) == 0 {
			return found
		}
		key := string(resp.Kvs[0].Key)
		if i := strings.IndexByte(key[len(prefix):], '/'); i >= 0 && len(prefix)+i+1 < len(key) {
			key = key[:len(prefix)+i+1]
			start = clientv3.GetPrefixRangeEnd(key)
		} else {
			start = key + openEnd
		}
		found = append(found, key)
	}
	return found
}
