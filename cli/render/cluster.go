package render

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/types"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// hexHeader is a header whose ids are hexadecimal text in JSON.
type hexHeader pb.ResponseHeader

// MarshalJSON writes the ids as text.
func (h *hexHeader) MarshalJSON() ([]byte, error) {
	return json.Marshal(&struct {
		ClusterID string `json:"cluster_id"`
		MemberID  string `json:"member_id"`
		Revision  int64  `json:"revision,omitempty"`
		RaftTerm  uint64 `json:"raft_term,omitempty"`
	}{fmt.Sprintf("%x", h.ClusterId), fmt.Sprintf("%x", h.MemberId), h.Revision, h.RaftTerm})
}

// hexMember is a member whose id is hexadecimal text in JSON.
type hexMember struct {
	ID         string   `json:"ID"`
	Name       string   `json:"name,omitempty"`
	PeerURLs   []string `json:"peerURLs,omitempty"`
	ClientURLs []string `json:"clientURLs,omitempty"`
	IsLearner  bool     `json:"isLearner,omitempty"`
}

func toHex(m *pb.Member) *hexMember {
	if m == nil {
		return nil
	}
	return &hexMember{fmt.Sprintf("%x", m.ID), m.Name, m.PeerURLs, m.ClientURLs, m.IsLearner}
}

type hexMembers struct {
	Header  *hexHeader   `json:"header"`
	Members []*hexMember `json:"members"`
}

func membersForHex(h *pb.ResponseHeader, members []*pb.Member) *hexMembers {
	out := &hexMembers{(*hexHeader)(h), make([]*hexMember, len(members))}
	for i, m := range members {
		out.Members[i] = toHex(m)
	}
	return out
}

// MemberAdd is the answer to a new member.
func MemberAdd(resp *clientv3.MemberAddResponse) Result {
	r := (*pb.MemberAddResponse)(resp)
	all := membersForHex(r.GetHeader(), r.GetMembers())
	return Result{
		JSON: r, Proto: r,
		Hex: &struct {
			Header  *hexHeader   `json:"header"`
			Member  *hexMember   `json:"member"`
			Members []*hexMember `json:"members"`
		}{all.Header, toHex(r.GetMember()), all.Members},
		Text: func(t *Text) {
			as := " "
			if r.GetMember().GetIsLearner() {
				as = " as learner "
			}
			t.Printf("Member %16x added%sto cluster %16x\n", r.GetMember().GetID(), as, r.GetHeader().GetClusterId())
		},
	}
}

// memberChanged is the answer to a change of the member id, which is shown as what was done to it.
func memberChanged(id uint64, done string, r any, h *pb.ResponseHeader, members []*pb.Member) Result {
	return Result{
		JSON: r, Proto: r, Hex: membersForHex(h, members),
		Text: func(t *Text) { t.Printf("Member %16x %s cluster %16x\n", id, done, h.GetClusterId()) },
	}
}

// MemberRemove is the answer to a member's removal.
func MemberRemove(id uint64, resp *clientv3.MemberRemoveResponse) Result {
	r := (*pb.MemberRemoveResponse)(resp)
	return memberChanged(id, "removed from", r, r.GetHeader(), r.GetMembers())
}

// MemberUpdate is the answer to a member's new peer URLs.
func MemberUpdate(id uint64, resp *clientv3.MemberUpdateResponse) Result {
	r := (*pb.MemberUpdateResponse)(resp)
	return memberChanged(id, "updated in", r, r.GetHeader(), r.GetMembers())
}

// MemberPromote is the answer to a learner's promotion.
func MemberPromote(id uint64, resp *clientv3.MemberPromoteResponse) Result {
	r := (*pb.MemberPromoteResponse)(resp)
	return memberChanged(id, "promoted in", r, r.GetHeader(), r.GetMembers())
}

// MemberList is the list of members.
func MemberList(resp *clientv3.MemberListResponse) Result {
	r := (*pb.MemberListResponse)(resp)
	rows := memberRows(r)
	return Result{
		JSON: r, Proto: r, Hex: membersForHex(r.GetHeader(), r.GetMembers()), Rows: rows,
		Text: func(t *Text) { t.Rows(rows) },
		Fields: func(l *Lines) {
			l.Header(r.GetHeader())
			for _, m := range r.GetMembers() {
				l.ID("ID", m.GetID())
				l.Quoted("Name", m.GetName())
				for _, u := range m.GetPeerURLs() {
					l.Quoted("PeerURL", u)
				}
				for _, u := range m.GetClientURLs() {
					l.Quoted("ClientURL", u)
				}
				l.Field("IsLearner", m.GetIsLearner())
				l.Blank()
			}
		},
	}
}

func memberRows(r *pb.MemberListResponse) *Rows {
	rows := &Rows{Header: []string{"ID", "Status", "Name", "Peer Addrs", "Client Addrs", "Is Learner"}}
	for _, m := range r.GetMembers() {
		status := "started"
		if m.Name == "" {
			status = "unstarted"
		}
		rows.Cells = append(rows.Cells, []string{
			fmt.Sprintf("%x", m.ID), status, m.Name, strings.Join(m.PeerURLs, ","), strings.Join(m.ClientURLs, ","), strconv.FormatBool(m.IsLearner),
		})
	}
	rows.Bad = func(i int) bool { return rows.Cells[i][1] == "unstarted" }
	return rows
}

// Health is whether an endpoint answers.
type Health struct {
	Endpoint string `json:"endpoint"`
	Health   bool   `json:"health"`
	Took     string `json:"took"`
	Error    string `json:"error,omitempty"`
}

// EndpointHealth is whether endpoints answer. In the simple format those that do not are named on stderr.
func EndpointHealth(list []Health) Result {
	rows := &Rows{Header: []string{"endpoint", "health", "took", "error"}, Bad: func(i int) bool { return !list[i].Health }}
	for _, h := range list {
		rows.Cells = append(rows.Cells, []string{h.Endpoint, strconv.FormatBool(h.Health), h.Took, h.Error})
	}
	return Result{
		JSON: list, Rows: rows,
		Text: func(t *Text) {
			for _, h := range list {
				if h.Error == "" {
					t.Printf("%s is healthy: successfully committed proposal: took = %v\n", h.Endpoint, h.Took)
				} else {
					t.Warnf("%s is unhealthy: failed to commit proposal: %v\n", h.Endpoint, h.Error)
				}
			}
		},
		Fields: func(l *Lines) {
			for _, h := range list {
				l.Quoted("Endpoint", h.Endpoint)
				l.Field("Health", h.Health)
				l.Field("Took", h.Took)
				l.Field("Error", h.Error)
				l.Blank()
			}
		},
	}
}

// Status is what an endpoint says about itself.
type Status struct {
	Endpoint string                   `json:"Endpoint"`
	Status   *clientv3.StatusResponse `json:"Status"`
}

// EndpointStatus is what endpoints say about themselves.
func EndpointStatus(list []Status) Result {
	rows := statusRows(list)
	return Result{JSON: list, Rows: rows, Text: func(t *Text) { t.Rows(rows) }, Fields: func(l *Lines) {
		for _, s := range list {
			r := (*pb.StatusResponse)(s.Status)
			l.Header(r.GetHeader())
			l.Quoted("Version", r.GetVersion())
			l.Quoted("StorageVersion", r.GetStorageVersion())
			l.Field("DBSize", r.GetDbSize())
			l.Field("DBSizeInUse", r.GetDbSizeInUse())
			l.Field("DBSizeQuota", r.GetDbSizeQuota())
			l.Field("Leader", r.GetLeader())
			l.Field("IsLearner", r.GetIsLearner())
			l.Field("RaftIndex", r.GetRaftIndex())
			l.Field("RaftAppliedIndex", r.GetRaftAppliedIndex())
			l.Field("Errors", r.GetErrors())
			l.Quoted("Endpoint", s.Endpoint)
			l.Quoted("DowngradeTargetVersion", r.GetDowngradeInfo().GetTargetVersion())
			l.Field("DowngradeEnabled", r.GetDowngradeInfo().GetEnabled())
			l.Blank()
		}
	}}
}

func statusRows(list []Status) *Rows {
	rows := &Rows{Header: []string{
		"endpoint", "ID", "version", "storage version", "db size", "in use", "percentage not in use", "quota", "is leader", "is learner", "raft term",
		"raft index", "raft applied index", "errors", "downgrade target version", "downgrade enabled",
	}, Bad: func(i int) bool { return len(list[i].Status.Errors) > 0 }}
	for _, s := range list {
		r := (*pb.StatusResponse)(s.Status)
		rows.Cells = append(rows.Cells, []string{
			s.Endpoint,
			fmt.Sprintf("%x", r.GetHeader().GetMemberId()),
			r.GetVersion(),
			r.GetStorageVersion(),
			humanize.Bytes(uint64(r.GetDbSize())),
			humanize.Bytes(uint64(r.GetDbSizeInUse())),
			fmt.Sprintf("%d%%", unused(r)),
			humanize.Bytes(uint64(r.GetDbSizeQuota())),
			strconv.FormatBool(r.GetLeader() == r.GetHeader().GetMemberId()),
			strconv.FormatBool(r.GetIsLearner()),
			fmt.Sprint(r.GetRaftTerm()),
			fmt.Sprint(r.GetRaftIndex()),
			fmt.Sprint(r.GetRaftAppliedIndex()),
			strings.Join(r.GetErrors(), ", "),
			r.GetDowngradeInfo().GetTargetVersion(),
			strconv.FormatBool(r.GetDowngradeInfo().GetEnabled()),
		})
	}
	return rows
}

// unused is the part of the database file that holds nothing, in percent; a server that names no size has none.
func unused(r *pb.StatusResponse) int64 {
	if r.GetDbSize() == 0 {
		return 0
	}
	return 100 - r.GetDbSizeInUse()*100/r.GetDbSize()
}

// Hash is the hash of an endpoint's data.
type Hash struct {
	Endpoint string                   `json:"Endpoint"`
	HashKV   *clientv3.HashKVResponse `json:"HashKV"`
}

// EndpointHashKV are the hashes of endpoints' data.
func EndpointHashKV(list []Hash) Result {
	rows := &Rows{Header: []string{"endpoint", "hash", "hash_revision"}}
	for _, h := range list {
		r := (*pb.HashKVResponse)(h.HashKV)
		rows.Cells = append(rows.Cells, []string{h.Endpoint, fmt.Sprint(r.GetHash()), fmt.Sprint(r.GetHashRevision())})
	}
	return Result{JSON: list, Rows: rows, Text: func(t *Text) { t.Rows(rows) }, Fields: func(l *Lines) {
		for _, h := range list {
			r := (*pb.HashKVResponse)(h.HashKV)
			l.Header(r.GetHeader())
			l.Quoted("Endpoint", h.Endpoint)
			l.Field("Hash", r.GetHash())
			l.Field("HashRevision", r.GetHashRevision())
			l.Blank()
		}
	}}
}

// Alarm is the list of alarms that are raised, or were disarmed.
func Alarm(resp *clientv3.AlarmResponse) Result {
	r := (*pb.AlarmResponse)(resp)
	return Result{
		JSON: r, Proto: r,
		Text: func(t *Text) {
			for _, a := range r.GetAlarms() {
				t.Printf("%+v\n", a)
			}
		},
		Fields: func(l *Lines) {
			l.Header(r.GetHeader())
			for _, a := range r.GetAlarms() {
				l.ID("MemberID", a.GetMemberID())
				l.Field("AlarmType", a.GetAlarm())
				l.Blank()
			}
		},
	}
}

// MoveLeader is the answer to a change of the leader.
func MoveLeader(leader, target uint64, resp *clientv3.MoveLeaderResponse) Result {
	r := (*pb.MoveLeaderResponse)(resp)
	return Result{JSON: r, Proto: r, Text: func(t *Text) {
		t.Printf("Leadership transferred from %s to %s\n", types.ID(leader), types.ID(target))
	}}
}

// Downgrade is the answer to a step of a downgrade: validate, enable or cancel.
func Downgrade(step string, resp *clientv3.DowngradeResponse) Result {
	r := (*pb.DowngradeResponse)(resp)
	return Result{JSON: r, Proto: r, Text: func(t *Text) {
		t.Printf("Downgrade %s success, cluster version %s\n", step, r.GetVersion())
	}}
}
