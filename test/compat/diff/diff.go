// Package diff turns answers of a server into flat lists of facts and compares two such lists.
//
// It is not a deep-equal: a fact is a path and a printed value, so a difference names the field, and the few fields that
// two correct servers may fill differently are listed in one table, volatile, with their reason.
package diff

import (
	"crypto/sha256"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Fact is one statement about an answer, e.g. {"header.revision", "7"}.
type Fact struct {
	Path  string
	Value string
	// Slack is how far two decimal values may be apart and still be equal: clocks are read twice.
	Slack int64
}

// String prints the fact as path = value.
func (f Fact) String() string { return f.Path + " = " + f.Value }

// rule says how a volatile field is printed.
type rule int

const (
	positive  rule = iota // only whether it is above zero
	within1               // the number, with a slack of one
	present               // not compared at all
	unordered             // a list whose order the server does not promise: sorted before it is compared
	prototext             // printed messages: runs of spaces count as one, see below
)

// volatile lists the only response fields that are not compared exactly.
var volatile = map[protoreflect.FullName]rule{
	"etcdserverpb.StatusResponse.dbSize":           positive, // depends on the engine's file format
	"etcdserverpb.StatusResponse.dbSizeInUse":      present,  // pages in etcd, never none; bytes of records in ours
	"etcdserverpb.StatusResponse.raftIndex":        positive, // depends on how many internal entries a start writes
	"etcdserverpb.StatusResponse.raftAppliedIndex": positive,
	"etcdserverpb.LeaseTimeToLiveResponse.TTL":     within1, // seconds left, by each server's own clock
	"etcdserverpb.HashResponse.hash":               present, // a hash over the engine's own buckets
	"etcdserverpb.LeaseTimeToLiveResponse.keys":    unordered,
	// The id of a member that joins is made of the second in which it does, and lists of members are in the order of ids. The
	// ids of the others are in every header.
	"etcdserverpb.Member.ID":                    positive,
	"etcdserverpb.MemberAddResponse.members":    unordered,
	"etcdserverpb.MemberListResponse.members":   unordered,
	"etcdserverpb.MemberUpdateResponse.members": unordered,
	"etcdserverpb.MemberRemoveResponse.members": unordered,
	// etcd prints alarms with protobuf's text format, which doubles the space between two fields or does not, by a hash
	// of the running binary: two builds of one etcd release differ. Ours always writes one space.
	"etcdserverpb.StatusResponse.errors": prototext,
}

// Message lists the facts of m: every populated field, in field order.
func Message(m proto.Message) []Fact {
	facts := walk(nil, "", m.ProtoReflect())
	if len(facts) == 0 {
		facts = append(facts, Fact{Path: "(message)", Value: "empty"})
	}
	return facts
}

// Error lists the facts of an error answer: its gRPC code, text and details.
func Error(err error) []Fact {
	st := status.Convert(err)
	if st.Code() == codes.DeadlineExceeded {
		// The client's timer and the server's race; whoever is first words the text.
		return []Fact{{Path: "code", Value: st.Code().String()}}
	}
	facts := []Fact{{Path: "code", Value: st.Code().String()}, {Path: "text", Value: strconv.Quote(st.Message())}}
	for i, d := range st.Proto().GetDetails() {
		facts = append(facts, Fact{Path: fmt.Sprintf("details[%d]", i), Value: d.String()})
	}
	return facts
}

func walk(facts []Fact, prefix string, m protoreflect.Message) []Fact {
	var fields []protoreflect.FieldDescriptor
	m.Range(func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		fields = append(fields, fd)
		return true
	})
	sort.Slice(fields, func(i, j int) bool { return fields[i].Number() < fields[j].Number() })
	for _, fd := range fields {
		path := prefix + string(fd.Name())
		if !fd.IsList() {
			facts = value(facts, path, fd, m.Get(fd))
			continue
		}
		list := m.Get(fd).List()
		facts = append(facts, Fact{Path: path, Value: fmt.Sprintf("%d entries", list.Len())})
		if how, ok := volatile[fd.FullName()]; ok && how == unordered {
			facts = append(facts, sorted(path, fd, list)...)
			continue
		}
		for i := range list.Len() {
			facts = value(facts, fmt.Sprintf("%s[%d]", path, i), fd, list.Get(i))
		}
	}
	// A server may tell more about itself in Status than etcd does, under field numbers that etcd does not use.
	if u := m.GetUnknown(); len(u) > 0 && m.Descriptor().FullName() != "etcdserverpb.StatusResponse" {
		facts = append(facts, Fact{Path: prefix + "(unknown fields)", Value: fmt.Sprintf("%x", []byte(u))})
	}
	return facts
}

// sorted lists the facts of a repeated field in the ascending order of what is printed of its elements.
func sorted(path string, fd protoreflect.FieldDescriptor, list protoreflect.List) []Fact {
	elements := make([][]Fact, list.Len())
	for i := range elements {
		elements[i] = value(nil, "", fd, list.Get(i))
	}
	sort.Slice(elements, func(i, j int) bool { return Print(elements[i]) < Print(elements[j]) })
	var facts []Fact
	for i, e := range elements {
		for _, f := range e {
			f.Path = fmt.Sprintf("%s[%d]%s", path, i, f.Path)
			facts = append(facts, f)
		}
	}
	return facts
}

func value(facts []Fact, path string, fd protoreflect.FieldDescriptor, v protoreflect.Value) []Fact {
	if how, ok := volatile[fd.FullName()]; ok {
		switch how {
		case positive:
			return append(facts, Fact{Path: path, Value: "(any positive)"})
		case present:
			return facts
		case within1:
			return append(facts, Fact{Path: path, Value: v.String(), Slack: 1})
		case prototext:
			return append(facts, Fact{Path: path, Value: strconv.Quote(strings.Join(strings.Fields(v.String()), " "))})
		}
	}
	switch fd.Kind() {
	case protoreflect.MessageKind:
		n := len(facts)
		facts = walk(facts, path+".", v.Message())
		if len(facts) == n {
			facts = append(facts, Fact{Path: path, Value: "{}"})
		}
		return facts
	case protoreflect.BytesKind:
		return append(facts, Fact{Path: path, Value: Bytes(v.Bytes())})
	case protoreflect.StringKind:
		return append(facts, Fact{Path: path, Value: strconv.Quote(v.String())})
	case protoreflect.EnumKind:
		if d := fd.Enum().Values().ByNumber(v.Enum()); d != nil {
			return append(facts, Fact{Path: path, Value: string(d.Name())})
		}
	}
	return append(facts, Fact{Path: path, Value: fmt.Sprint(v.Interface())})
}

// Bytes prints b quoted; long values are cut and get their length and a checksum.
func Bytes(b []byte) string {
	if len(b) <= 80 {
		return strconv.Quote(string(b))
	}
	return fmt.Sprintf("%q... %d bytes, sha256 %x", b[:16], len(b), sha256.Sum256(b))
}

// Compare lists the differences between what the judge and the other server answered, one line each; none when equal.
func Compare(judge, other []Fact) []string {
	index := make(map[string]Fact, len(other))
	for _, f := range other {
		index[f.Path] = f
	}
	var out []string
	for _, j := range judge {
		o, ok := index[j.Path]
		switch {
		case !ok:
			out = append(out, fmt.Sprintf("%s: etcd has %s, the other has nothing", j.Path, j.Value))
		case !same(j, o):
			out = append(out, fmt.Sprintf("%s: etcd has %s, the other has %s", j.Path, j.Value, o.Value))
		}
		delete(index, j.Path)
	}
	for _, f := range other {
		if _, extra := index[f.Path]; extra {
			out = append(out, fmt.Sprintf("%s: etcd has nothing, the other has %s", f.Path, f.Value))
		}
	}
	return out
}

func same(a, b Fact) bool {
	if a.Value == b.Value {
		return true
	}
	if a.Slack == 0 {
		return false
	}
	x, errx := strconv.ParseInt(a.Value, 10, 64)
	y, erry := strconv.ParseInt(b.Value, 10, 64)
	return errx == nil && erry == nil && max(x-y, y-x) <= a.Slack
}

// Subset lists the facts of want that got lacks; it is how a scenario states what it expects.
func Subset(want, got []Fact) []string {
	have := make(map[string]Fact, len(got))
	for _, f := range got {
		have[f.Path] = f
	}
	var out []string
	for _, w := range want {
		if g, ok := have[w.Path]; !ok || !same(w, g) {
			was := "nothing"
			if ok {
				was = g.Value
			}
			out = append(out, fmt.Sprintf("%s: expected %s, got %s", w.Path, w.Value, was))
		}
	}
	return out
}

// Print renders facts one a line, indented.
func Print(facts []Fact) string {
	var b strings.Builder
	for _, f := range facts {
		b.WriteString("    " + f.String() + "\n")
	}
	return b.String()
}
