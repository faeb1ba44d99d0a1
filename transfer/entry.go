package transfer

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/wire"
)

// legacy is the part of a request of the v2 API that decides where it goes. Up to 3.5 members also told each other their names
// and the cluster's version by such requests.
type legacy struct {
	id           uint64
	method, path string
	value        string
}

// translator turns entries of etcd's log into entries of ours. Most are the same.
type translator struct {
	keepV2 bool // requests of the v2 API are carried over; else they become empty entries
	v2     int  // so many there were
}

// entry translates one.
func (t *translator) entry(e *raftpb.Entry) (*raftpb.Entry, error) {
	data := e.GetData()
	switch e.GetType() {
	case raftpb.EntryConfChange:
		return e, nil
	case raftpb.EntryConfChangeV2:
		return nil, fmt.Errorf("transfer: entry %d changes several members at once, which no release of etcd does", e.GetIndex())
	}
	if len(data) == 0 {
		return e, nil
	}
	if l, ok := readLegacy(data); ok {
		body, err := t.legacy(l, data)
		if err != nil {
			return nil, fmt.Errorf("transfer: entry %d: %w", e.GetIndex(), err)
		}
		return withData(e, body), nil
	}
	c, err := command.Decode(data)
	if err != nil {
		return nil, fmt.Errorf("transfer: entry %d: %w", e.GetIndex(), err)
	}
	switch {
	case c.Kind == command.V2:
		if t.v2++; t.keepV2 {
			return e, nil
		}
		return withData(e, nil), nil
	case c.Kind != command.Unknown:
		return e, nil
	}
	if other := unknownField(data); other != 0 {
		return nil, fmt.Errorf("transfer: entry %d holds a request of number %d, which this release does not know: was it written by an etcd newer than %d.%d?", e.GetIndex(), other, newestMajor, newestMinor)
	}
	return withData(e, nil), nil
}

// The fields of InternalRaftRequest that are no request, and one that does nothing.
const (
	fieldHeader               = 100
	fieldID                   = 1
	fieldRange                = 3 // it reads only
	fieldDowngradeVersionTest = 9900
)

// unknownField is the number of a request that is not known, 0 for none.
func unknownField(data []byte) int {
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return -1
		}
		data = data[n:]
		if n = protowire.ConsumeFieldValue(number, kind, data); n < 0 {
			return -1
		}
		data = data[n:]
		switch number {
		case fieldHeader, fieldID, fieldRange, fieldDowngradeVersionTest:
		default:
			return int(number)
		}
	}
	return 0
}

func withData(e *raftpb.Entry, data []byte) *raftpb.Entry {
	return &raftpb.Entry{Type: e.Type, Term: e.Term, Index: e.Index, Data: data}
}

// readLegacy says whether bytes are a request of the v2 API by themselves: then field 2 is the name of a method, where a request in
// the log since 3.0 has a message.
func readLegacy(data []byte) (l legacy, ok bool) {
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return l, false
		}
		data = data[n:]
		switch {
		case number == 1 && kind == protowire.VarintType:
			l.id, n = protowire.ConsumeVarint(data)
		case number >= 2 && number <= 4 && kind == protowire.BytesType:
			var b []byte
			b, n = protowire.ConsumeBytes(data)
			*[...]*string{&l.method, &l.path, &l.value}[number-2] = string(b)
		default:
			n = protowire.ConsumeFieldValue(number, kind, data)
		}
		if n < 0 {
			return l, false
		}
		data = data[n:]
	}
	switch l.method {
	case "PUT", "POST", "DELETE", "QGET", "SYNC", "GET":
		return l, true
	}
	return l, false
}

// The paths by which members spoke of themselves.
var attributesPath = regexp.MustCompile(`^/0/members/([0-9a-f]{1,16})/attributes$`)

const versionPath = "/0/version"

// legacy is the entry for a request of the v2 API.
func (t *translator) legacy(l legacy, data []byte) ([]byte, error) {
	if at := attributesPath.FindStringSubmatch(l.path); at != nil && l.method == "PUT" {
		id, err := strconv.ParseUint(at[1], 16, 64)
		if err != nil {
			return nil, fmt.Errorf("%s is no member's id", at[1])
		}
		var attributes struct {
			Name       string   `json:"name"`
			ClientURLs []string `json:"clientURLs"`
		}
		if err := json.Unmarshal([]byte(l.value), &attributes); err != nil {
			return nil, fmt.Errorf("the attributes of member %s, %q, cannot be understood: %w", at[1], l.value, err)
		}
		m := wire.ClusterMemberAttrSetRequest{MemberID: id, Name: attributes.Name, ClientURLs: attributes.ClientURLs}
		return command.AppendEntry(nil, l.id, command.MemberAttributes, memberAttributes(&m)), nil
	}
	if l.path == versionPath && l.method == "PUT" {
		body := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), l.value)
		return command.AppendEntry(nil, l.id, command.ClusterVersion, body), nil
	}
	if l.method == "QGET" || l.method == "GET" {
		return nil, nil // it changed nothing
	}
	if l.method != "SYNC" {
		t.v2++
	}
	if !t.keepV2 {
		return nil, nil
	}
	head := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), l.id)
	out := protowire.AppendBytes(protowire.AppendTag(nil, fieldHeader, protowire.BytesType), head)
	return protowire.AppendBytes(protowire.AppendTag(out, protowire.Number(wire.FieldV2), protowire.BytesType), data), nil
}

// memberAttributes encodes membershippb.ClusterMemberAttrSetRequest.
func memberAttributes(m *wire.ClusterMemberAttrSetRequest) []byte {
	inner := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), m.Name)
	for _, url := range m.ClientURLs {
		inner = protowire.AppendString(protowire.AppendTag(inner, 2, protowire.BytesType), url)
	}
	out := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), m.MemberID)
	return protowire.AppendBytes(protowire.AppendTag(out, 2, protowire.BytesType), inner)
}

// size is about how many bytes an entry takes.
func size(e *raftpb.Entry) int { return proto.Size(e) }

// plainPassword refuses an entry by which every member would have to hash a password for itself, and so differ: etcd before 3.5 wrote
// such. The db of a member that was stopped, and not killed, covers it.
func plainPassword(e *raftpb.Entry) error {
	c, err := command.Decode(e.GetData())
	if e.GetType() != raftpb.EntryNormal || err != nil || c.Kind != command.AuthUserAdd && c.Kind != command.AuthUserChangePassword {
		return nil
	}
	hashedField := protowire.Number(4)
	if c.Kind == command.AuthUserChangePassword {
		hashedField = 3
	}
	var name, password, hashed []byte
	for b := c.Body; len(b) > 0; {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("transfer: entry %d cannot be decoded", e.GetIndex())
		}
		value := b[n:]
		m := protowire.ConsumeFieldValue(number, kind, value)
		if m < 0 {
			return fmt.Errorf("transfer: entry %d cannot be decoded", e.GetIndex())
		}
		if kind == protowire.BytesType {
			text, _ := protowire.ConsumeBytes(value)
			switch number {
			case 1:
				name = text
			case 2:
				password = text
			case hashedField:
				hashed = text
			}
		}
		b = value[m:]
	}
	if len(password) == 0 || len(hashed) > 0 {
		return nil
	}
	return fmt.Errorf("transfer: entry %d of the log, which the database does not cover, sets the password of user %q in plain text, as etcd before 3.5 does: start etcd on the directory once more, let it join the others, stop it (SIGTERM), and import again", e.GetIndex(), name)
}
