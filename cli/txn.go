package cli

import (
	"bufio"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"

	"quorate.dev/quorate/cli/render"
)

func txnVerb() Verb {
	var interactive bool
	return Verb{
		Use: "txn [options]", Short: "Txn processes all the requests in one transaction", Group: GroupKV, Long: txnHelp,
		Flags: func(fs *pflag.FlagSet) {
			fs.BoolVarP(&interactive, "interactive", "i", false, "Input transaction in interactive mode")
		},
		Run: func(s *Session, args []string) error {
			if len(args) != 0 {
				return Failf(ExitBadArgs, "txn command does not accept argument")
			}
			c, err := s.Client()
			if err != nil {
				return err
			}
			in := &txnReader{s: s, lines: bufio.NewReader(s.stdin()), prompts: interactive}
			cmps, then, otherwise := in.read()
			if in.err != nil {
				return in.err
			}
			resp, err := c.Txn(s.Context).If(cmps...).Then(then...).Else(otherwise...).Commit()
			if err != nil {
				return err
			}
			return s.Print(render.Txn(resp))
		},
	}
}

const txnHelp = `Txn reads multiple etcd requests from standard input and applies them as a single atomic transaction.

A transaction consists of three components:
1) a list of conditions,
2) a list of requests to apply if all the conditions are true,
3) a list of requests to apply if any condition is false.

Example interactive stdin usage:

---
etcdctl txn -i
# compares:
mod("key1") > "0"

# success requests (get, put, delete):
put key1 "overwrote-key1"

# failure requests (get, put, delete):
put key1 "created-key1"
put key2 "some extra key"
---

Refer to https://github.com/etcd-io/etcd/blob/main/etcdctl/README.md#txn-options.`

// txnReader reads a transaction: three blocks of lines, each ended by an empty line.
type txnReader struct {
	s       *Session
	lines   *bufio.Reader
	prompts bool
	err     error
}

func (r *txnReader) read() (cmps []clientv3.Cmp, then, otherwise []clientv3.Op) {
	r.block("compares:", func(line string) error {
		cmp, err := parseCompare(line)
		cmps = append(cmps, cmp)
		return err
	})
	then = r.ops("success requests (get, put, del):")
	return cmps, then, r.ops("failure requests (get, put, del):")
}

func (r *txnReader) ops(prompt string) (ops []clientv3.Op) {
	r.block(prompt, func(line string) error {
		op, err := r.s.parseOp(line)
		ops = append(ops, op)
		return err
	})
	return ops
}

// block hands the lines of a block to use. After a failure nothing more is read.
func (r *txnReader) block(prompt string, use func(line string) error) {
	if r.err != nil {
		return
	}
	if r.prompts {
		r.s.Printf("%s\n", prompt)
	}
	for r.err == nil {
		line, err := r.lines.ReadString('\n')
		if err != nil {
			r.err = Fail(ExitInvalidInput, err)
			return
		}
		if line = strings.TrimSpace(line); line == "" {
			return
		}
		if err := use(line); err != nil {
			r.err = invalidInput(err)
		}
	}
}

// invalidInput gives an error the exit code of input that cannot be understood, unless it has one.
func invalidInput(err error) error {
	var f *Failure
	if errors.As(err, &f) {
		return err
	}
	return Fail(ExitInvalidInput, err)
}

// words matches what a shell would take for one word: quoted, or without spaces.
var words = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|'[^']*'|[^'"\s]\S*[^'"\s]?`)

// splitWords splits a line into words. What is in double quotes may have Go's escapes.
func splitWords(line string) ([]string, error) {
	found := words.FindAllString(line, -1)
	for i, w := range found {
		switch w[0] {
		case '\'':
			found[i] = w[1 : len(w)-1]
		case '"':
			if _, err := fmt.Sscanf(w, "%q", &found[i]); err != nil {
				return nil, Fail(ExitInvalidInput, err)
			}
		}
	}
	return found, nil
}

// parseOp reads one request of a transaction, a command line of get, put or del.
func (s *Session) parseOp(line string) (op clientv3.Op, err error) {
	args, err := splitWords(line)
	if err != nil {
		return op, err
	}
	if len(args) < 2 {
		return op, fmt.Errorf("invalid txn compare request: %s", line)
	}
	var failure error
	done := false
	request := func(v Verb, read func(args []string) (operation, error), make func(o operation) clientv3.Op) *cobra.Command {
		v.Group, v.Keys, v.Run = "", false, nil
		c := s.tool.command(v)
		c.Run = func(_ *cobra.Command, args []string) {
			o, err := read(args)
			op, failure, done = make(o), err, true
		}
		return c
	}
	put, get, del := new(putFlags), new(getFlags), new(delFlags)
	root := &cobra.Command{SilenceErrors: true}
	root.SetOut(s.Process.Stderr)
	root.SetErr(s.Process.Stderr)
	root.AddCommand(
		request(put.verb(), func(a []string) (operation, error) { return put.operation(s, a) },
			func(o operation) clientv3.Op { return clientv3.OpPut(o.key, o.value, o.opts...) }),
		request(get.verb(), get.operation,
			func(o operation) clientv3.Op { return clientv3.OpGet(o.key, o.opts...) }),
		request(del.verb(), func(a []string) (operation, error) { return del.operation(s, a) },
			func(o operation) clientv3.Op { return clientv3.OpDelete(o.key, o.opts...) }),
	)
	root.SetArgs(args)
	if err := root.Execute(); err != nil || !done {
		return op, fmt.Errorf("invalid txn request: %s", line)
	}
	return op, failure
}

// parseCompare reads one condition of a transaction: target("key") operator "value".
func parseCompare(line string) (cmp clientv3.Cmp, err error) {
	target, rest, ok := strings.Cut(line, "(")
	if !ok {
		return cmp, fmt.Errorf("malformed comparison: %s", line)
	}
	var key, op, val string
	n, err := fmt.Sscanf(rest, "%q) %s %q", &key, &op, &val)
	if n != 3 {
		return cmp, fmt.Errorf("malformed comparison: %s; got %s(%q) %s %q", line, target, key, op, val)
	}
	if err != nil {
		return cmp, fmt.Errorf("malformed comparison: %s (%w)", line, err)
	}
	if !isOperator(op) {
		return cmp, fmt.Errorf("malformed comparison: %s (unknown operator %s; use =, !=, < or >)", line, op)
	}
	if target == "val" || target == "value" {
		return clientv3.Compare(clientv3.Value(key), op, val), nil
	}
	targets := map[string]func(string) clientv3.Cmp{
		"ver": clientv3.Version, "version": clientv3.Version,
		"c": clientv3.CreateRevision, "create": clientv3.CreateRevision,
		"m": clientv3.ModRevision, "mod": clientv3.ModRevision,
		"lease": clientv3.LeaseValue,
	}
	make, ok := targets[target]
	if !ok {
		return cmp, fmt.Errorf("malformed comparison: %s (unknown target %s)", line, target)
	}
	v, err := strconv.ParseInt(val, 10, 64)
	if err != nil {
		return cmp, fmt.Errorf("invalid txn compare request: %s", line)
	}
	return clientv3.Compare(make(key), op, v), nil
}

// isOperator says whether the client library knows an operator; it panics at others.
func isOperator(op string) bool {
	switch op {
	case "=", "!=", "<", ">":
		return true
	}
	return false
}
