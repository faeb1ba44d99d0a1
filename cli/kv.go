package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"

	"quorate.dev/quorate/cli/render"
)

// operation is what the arguments of get, put or del ask for. Transactions use it, too.
type operation struct {
	key, value string
	opts       []clientv3.OpOption
}

// putFlags are put's.
type putFlags struct {
	lease                            string
	prevKV, ignoreValue, ignoreLease bool
}

func (f *putFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.lease, "lease", "0", "lease ID (in hexadecimal) to attach to the key")
	fs.BoolVar(&f.prevKV, "prev-kv", false, "return the previous key-value pair before modification")
	fs.BoolVar(&f.ignoreValue, "ignore-value", false, "updates the key using its current value")
	fs.BoolVar(&f.ignoreLease, "ignore-lease", false, "updates the key using its current lease")
}

const putUse = "put [options] <key> <value> (<value> can also be given from stdin)"

func (f *putFlags) verb() Verb {
	return Verb{
		Use: putUse, Short: "Puts the given key into the store", Group: GroupKV, Flags: f.register, Keys: true,
		Long: `
Puts the given key into the store.

When <value> begins with '-', <value> is interpreted as a flag.
Insert '--' for workaround:

$ put <key> -- <value>
$ put -- <key> <value>

If <value> isn't given as a command line argument and '--ignore-value' is not specified,
this command tries to read the value from standard input.

If <lease> isn't given as a command line argument and '--ignore-lease' is not specified,
this command tries to read the value from standard input.

For example,
$ cat file | put <key>
will store the content of the file to <key>.
`,
		Run: func(s *Session, args []string) error {
			o, err := f.operation(s, args)
			if err != nil {
				return err
			}
			c, err := s.Client()
			if err != nil {
				return err
			}
			ctx, cancel := s.Timeout()
			defer cancel()
			resp, err := c.Put(ctx, o.key, o.value, o.opts...)
			if err != nil {
				return err
			}
			return s.Print(render.Put(resp))
		},
	}
}

// operation checks put's arguments and reads the value from stdin when it is not among them.
func (f *putFlags) operation(s *Session, args []string) (o operation, err error) {
	if len(args) == 0 {
		return o, Failf(ExitBadArgs, "put command needs 1 argument and input from stdin or 2 arguments")
	}
	o.key = args[0]
	if f.ignoreValue && len(args) > 1 {
		return o, Failf(ExitBadArgs, "put command needs only 1 argument when 'ignore-value' is set")
	}
	if !f.ignoreValue {
		var ok bool
		if o.value, ok = s.argument(args, 1); !ok {
			return o, Failf(ExitBadArgs, "put command needs 1 argument and input from stdin or 2 arguments")
		}
	}
	id, err := strconv.ParseInt(f.lease, 16, 64)
	if err != nil {
		return o, Failf(ExitBadArgs, "bad lease ID (%w), expecting ID in Hex", err)
	}
	if id != 0 {
		o.opts = append(o.opts, clientv3.WithLease(clientv3.LeaseID(id)))
	}
	if f.prevKV {
		o.opts = append(o.opts, clientv3.WithPrevKV())
	}
	if f.ignoreValue {
		o.opts = append(o.opts, clientv3.WithIgnoreValue())
	}
	if f.ignoreLease {
		o.opts = append(o.opts, clientv3.WithIgnoreLease())
	}
	return o, nil
}

// getFlags are get's.
type getFlags struct {
	consistency, order, sortBy string
	limit, rev                 int64
	prefix, fromKey            bool
	keysOnly, countOnly        bool
	valueOnly, stream          bool
	create, mod                revRange
	decode                     bool // under our own name
}

// revRange are the revisions that get may be limited to; 0 is no limit.
type revRange struct{ least, most int64 }

func (f *getFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.consistency, "consistency", "l", "Linearizable(l) or Serializable(s)")
	fs.StringVar(&f.order, "order", "", "Order of results; ASCEND or DESCEND (ASCEND by default)")
	fs.StringVar(&f.sortBy, "sort-by", "", "Sort target; CREATE, KEY, MODIFY, VALUE, or VERSION")
	fs.Int64Var(&f.limit, "limit", 0, "Maximum number of results")
	fs.BoolVar(&f.prefix, "prefix", false, "Get keys with matching prefix")
	fs.BoolVar(&f.fromKey, "from-key", false, "Get keys that are greater than or equal to the given key using byte compare")
	fs.Int64Var(&f.rev, "rev", 0, "Specify the kv revision")
	fs.BoolVar(&f.keysOnly, "keys-only", false, "Get only the keys")
	fs.BoolVar(&f.countOnly, "count-only", false, "Get only the count")
	fs.BoolVar(&f.valueOnly, "print-value-only", false, `Only write values when using the "simple" output format`)
	fs.Int64Var(&f.create.least, "min-create-rev", 0, "Minimum create revision")
	fs.Int64Var(&f.create.most, "max-create-rev", 0, "Maximum create revision")
	fs.Int64Var(&f.mod.least, "min-mod-rev", 0, "Minimum modification revision")
	fs.Int64Var(&f.mod.most, "max-mod-rev", 0, "Maximum modification revision")
	fs.BoolVar(&f.stream, "stream", false, "Use the RangeStream RPC")
}

// getCompletions are the values that the shell offers.
var getCompletions = map[string][]string{
	"consistency": {"l", "s"},
	"order":       {"ASCEND", "DESCEND"},
	"sort-by":     {"CREATE", "KEY", "MODIFY", "VALUE", "VERSION"},
}

const getUse = "get [options] <key> [range_end]"

func (f *getFlags) verb() Verb {
	return Verb{
		Use: getUse, Short: "Gets the key or a range of keys", Group: GroupKV, Flags: f.register, Complete: getCompletions, Keys: true,
		OwnFlags: func(fs *pflag.FlagSet) {
			fs.BoolVar(&f.decode, "decode", false, "Show values whose format is known (Kubernetes objects) as text; the default on a terminal")
		},
		Run: f.run,
	}
}

func (f *getFlags) run(s *Session, args []string) error {
	o, err := f.operation(args)
	if err != nil {
		return err
	}
	c, err := s.Client()
	if err != nil {
		return err
	}
	ctx, cancel := s.Timeout()
	defer cancel()
	resp, err := f.ask(ctx, c, o)
	if err != nil {
		return err
	}
	if f.countOnly && s.printer.Format != render.Fields {
		return Failf(ExitBadArgs, "--count-only is only for `--write-out=fields`")
	}
	if f.valueOnly {
		if !s.Simple() {
			return Failf(ExitBadArgs, "print-value-only is only for `--write-out=simple`")
		}
		s.printer.ValueOnly = true
	}
	if f.decode || s.printer.Pretty && !s.Flags.Changed("decode") {
		s.printer.Decode = s.Process.Decode
	}
	return s.Print(render.Get(resp))
}

// operation checks get's arguments.
func (f *getFlags) operation(args []string) (o operation, err error) {
	if len(args) == 0 {
		return o, Failf(ExitBadArgs, "get command needs one argument as key and an optional argument as range_end")
	}
	if f.prefix && f.fromKey {
		return o, Failf(ExitBadArgs, "`--prefix` and `--from-key` cannot be set at the same time, choose one")
	}
	if f.keysOnly && f.countOnly {
		return o, Failf(ExitBadArgs, "`--keys-only` and `--count-only` cannot be set at the same time, choose one")
	}
	serializable, err := isSerializable(f.consistency, f.consistency)
	if err != nil {
		return o, err
	}
	if serializable {
		o.opts = append(o.opts, clientv3.WithSerializable())
	}
	o.key = args[0]
	if len(args) > 1 {
		if f.prefix || f.fromKey {
			return o, Failf(ExitBadArgs, "too many arguments, only accept one argument when `--prefix` or `--from-key` is set")
		}
		o.opts = append(o.opts, clientv3.WithRange(args[1]))
	}
	o.opts = append(o.opts, clientv3.WithLimit(f.limit))
	if f.rev > 0 {
		o.opts = append(o.opts, clientv3.WithRev(f.rev))
	}
	sorting, err := f.sorting()
	if err != nil {
		return o, err
	}
	o.opts = append(o.opts, sorting)
	o.span(f.prefix, f.fromKey)
	if f.keysOnly {
		o.opts = append(o.opts, clientv3.WithKeysOnly())
	}
	if f.countOnly {
		o.opts = append(o.opts, clientv3.WithCountOnly())
	}
	return o, f.revisions(&o)
}

// sorting understands --order and --sort-by in any case.
func (f *getFlags) sorting() (clientv3.OpOption, error) {
	orders := map[string]clientv3.SortOrder{"": clientv3.SortNone, "ASCEND": clientv3.SortAscend, "DESCEND": clientv3.SortDescend}
	order, ok := orders[strings.ToUpper(f.order)]
	if !ok {
		return nil, Failf(ExitBadFeature, "bad sort order %v", f.order)
	}
	targets := map[string]clientv3.SortTarget{
		"": clientv3.SortByKey, "KEY": clientv3.SortByKey, "CREATE": clientv3.SortByCreateRevision,
		"MODIFY": clientv3.SortByModRevision, "VALUE": clientv3.SortByValue, "VERSION": clientv3.SortByVersion,
	}
	target, ok := targets[strings.ToUpper(f.sortBy)]
	if !ok {
		return nil, Failf(ExitBadFeature, "bad sort target %v", f.sortBy)
	}
	return clientv3.WithSort(target, order), nil
}

// revisions limits what get finds to revisions.
func (f *getFlags) revisions(o *operation) error {
	if f.create.least > 0 {
		o.opts = append(o.opts, clientv3.WithMinCreateRev(f.create.least))
	}
	if f.create.most > 0 {
		if f.create.least > f.create.most {
			return Failf(ExitBadFeature, "getMinCreateRev(=%v) > getMaxCreateRev(=%v)", f.create.least, f.create.most)
		}
		o.opts = append(o.opts, clientv3.WithMaxCreateRev(f.create.most))
	}
	if f.mod.least > 0 {
		o.opts = append(o.opts, clientv3.WithMinModRev(f.mod.least))
	}
	if f.mod.most > 0 {
		if f.mod.least > f.mod.most {
			return Failf(ExitBadFeature, "getMinModRev(=%v) > getMaxModRev(=%v)", f.mod.least, f.mod.most)
		}
		o.opts = append(o.opts, clientv3.WithMaxModRev(f.mod.most))
	}
	return nil
}

// span makes the operation one of many keys. An empty key stands for the smallest one.
func (o *operation) span(prefix, fromKey bool) {
	if (prefix || fromKey) && o.key == "" {
		o.key = "\x00"
		fromKey, prefix = true, false
	}
	if prefix {
		o.opts = append(o.opts, clientv3.WithPrefix())
	}
	if fromKey {
		o.opts = append(o.opts, clientv3.WithFromKey())
	}
}

// isSerializable understands --consistency; shown is the value in the error.
func isSerializable(value, shown string) (bool, error) {
	switch value {
	case "s":
		return true, nil
	case "l":
		return false, nil
	}
	return false, Failf(ExitBadFeature, "unknown consistency flag %q", shown)
}

// delFlags are del's.
type delFlags struct {
	prefix, prevKV, fromKey, ranged bool
}

func (f *delFlags) register(fs *pflag.FlagSet) {
	fs.BoolVar(&f.prefix, "prefix", false, "delete keys with matching prefix")
	fs.BoolVar(&f.prevKV, "prev-kv", false, "return deleted key-value pairs")
	fs.BoolVar(&f.fromKey, "from-key", false, "delete keys that are greater than or equal to the given key using byte compare")
	fs.BoolVar(&f.ranged, "range", false, "delete range of keys")
}

const delUse = "del [options] <key> [range_end]"

func (f *delFlags) verb() Verb {
	return Verb{
		Use: delUse, Short: "Removes the specified key or range of keys [key, range_end)", Group: GroupKV, Flags: f.register, Keys: true,
		Run: func(s *Session, args []string) error {
			o, err := f.operation(s, args)
			if err != nil {
				return err
			}
			c, err := s.Client()
			if err != nil {
				return err
			}
			ctx, cancel := s.Timeout()
			defer cancel()
			resp, err := c.Delete(ctx, o.key, o.opts...)
			if err != nil {
				return err
			}
			return s.Print(render.Del(resp))
		},
	}
}

// operation checks del's arguments. Two arguments without --range may be a mistake that costs data: there is time to think.
func (f *delFlags) operation(s *Session, args []string) (o operation, err error) {
	if len(args) == 0 || len(args) > 2 {
		return o, Failf(ExitBadArgs, "del command needs one argument as key and an optional argument as range_end")
	}
	if f.prefix && f.fromKey {
		return o, Failf(ExitBadArgs, "`--prefix` and `--from-key` cannot be set at the same time, choose one")
	}
	o.key = args[0]
	if len(args) > 1 {
		if f.prefix || f.fromKey {
			return o, Failf(ExitBadArgs, "too many arguments, only accept one argument when `--prefix` or `--from-key` is set")
		}
		o.opts = append(o.opts, clientv3.WithRange(args[1]))
		if !f.ranged {
			fmt.Fprintf(s.Process.Stderr, "Warning: Keys between %q and %q will be deleted. Please interrupt the command within next 2 seconds to cancel. "+
				"You can provide `--range` flag to avoid the delay.\n", args[0], args[1])
			if err := s.wait(delPause); err != nil {
				return o, err
			}
		}
	}
	if f.prevKV {
		o.opts = append(o.opts, clientv3.WithPrevKV())
	}
	o.span(f.prefix, f.fromKey)
	return o, nil
}

// delPause is how long del waits for second thoughts.
const delPause = 2 * time.Second

// ask sends a range, in one answer or as a stream of them.
func (f *getFlags) ask(ctx context.Context, c *clientv3.Client, o operation) (*clientv3.GetResponse, error) {
	if !f.stream {
		return c.Get(ctx, o.key, o.opts...)
	}
	stream, err := c.GetStream(ctx, o.key, o.opts...)
	if err != nil {
		return nil, err
	}
	return clientv3.GetStreamToGetResponse(stream)
}
