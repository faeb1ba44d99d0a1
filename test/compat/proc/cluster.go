package proc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// StartCluster runs n members of kind k with their data below dir and returns when all answer. Members of two clusters listen on
// different ports, so their ids differ; the connections of the servers put names in their place (see names), so that answers of
// two clusters can be compared.
func StartCluster(k Kind, dir string, n int, flags ...string) ([]*Server, error) {
	ports, err := FreePorts(n)
	if err != nil {
		return nil, err
	}
	return StartClusterAt(k, dir, ports, nil, flags...)
}

// StartClusterAt is StartCluster on chosen ports, one for each member: what two clusters that run there one after the other
// derive from their addresses is equal. clients are the ports of the client listeners, which are then advertised, too; without
// them each member chooses its own.
func StartClusterAt(k Kind, dir string, ports, clients []int, flags ...string) ([]*Server, error) {
	n := len(ports)
	urls := make([]string, n)
	var initial []string
	for i, port := range ports {
		urls[i] = fmt.Sprintf("http://127.0.0.1:%d", port)
		initial = append(initial, fmt.Sprintf("m%d=%s", i+1, urls[i]))
	}
	shared := &names{}
	servers, errs := make([]*Server, n), make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			own := append([]string{fmt.Sprintf("--name=m%d", i+1), "--initial-cluster=" + strings.Join(initial, ","),
				"--initial-advertise-peer-urls=" + urls[i], "--listen-peer-urls=" + urls[i]}, flags...)
			if clients != nil {
				url := fmt.Sprintf("http://127.0.0.1:%d", clients[i])
				own = append(own, "--listen-client-urls="+url, "--advertise-client-urls="+url)
			}
			servers[i], errs[i] = start(k, filepath.Join(dir, fmt.Sprintf("m%d", i+1)), shared, own...)
		})
	}
	wg.Wait()
	err := errors.Join(errs...)
	if err == nil {
		err = shared.learn(servers[0].conn, urls)
	}
	if err != nil {
		for _, s := range servers {
			if s != nil {
				s.Kill()
			}
		}
		return nil, err
	}
	return servers, nil
}

// Lead makes the i-th member of a cluster its leader.
func Lead(ctx context.Context, cluster []*Server, i int) error {
	for _, s := range cluster {
		leads, err := s.Leads(ctx)
		if err != nil {
			return err
		}
		if leads && s != cluster[i] {
			_, err = pb.NewMaintenanceClient(s.conn).MoveLeader(ctx, &pb.MoveLeaderRequest{TargetID: memberName + uint64(i)})
			return err
		}
	}
	return nil
}

// Leads reports whether the server is the leader of its cluster.
func (s *Server) Leads(ctx context.Context) (bool, error) {
	st, err := pb.NewMaintenanceClient(s.conn).Status(ctx, &pb.StatusRequest{})
	if err != nil {
		return false, err
	}
	return st.Leader == st.Header.MemberId, nil
}

// Names that stand in for ids: the cluster's, and the first member's of which the others count on.
const (
	clusterName = 0xc000
	memberName  = 0xa001
	urlName     = "http://127.0.0.1:2380"
)

// names translates what two equal clusters cannot have in common: ids, peer URLs and the raft term. Answers carry names, requests
// ids. Any 64-bit number that equals an id is taken for it: ids are hashes. Until learn has been called it changes nothing.
type names struct{ known atomic.Pointer[nameTable] }

type nameTable struct {
	answers, requests map[uint64]uint64
	urlNames, urls    *strings.Replacer
}

func (n *names) learn(conn *grpc.ClientConn, urls []string) error {
	list, err := pb.NewClusterClient(conn).MemberList(context.Background(), &pb.MemberListRequest{})
	if err != nil {
		return err
	}
	t := &nameTable{answers: map[uint64]uint64{list.Header.ClusterId: clusterName}, requests: map[uint64]uint64{clusterName: list.Header.ClusterId}}
	var to, from []string
	for i, url := range urls {
		to, from = append(to, url, urlName+fmt.Sprint(i+1)), append(from, urlName+fmt.Sprint(i+1), url)
		for _, m := range list.Members {
			if m.Name == fmt.Sprintf("m%d", i+1) {
				t.answers[m.ID], t.requests[memberName+uint64(i)] = memberName+uint64(i), m.ID
			}
		}
	}
	if len(t.answers) != len(urls)+1 {
		return fmt.Errorf("the members of a cluster of %d are %v", len(urls), list.Members)
	}
	for id, name := range t.answers { // texts tell ids in decimal
		to = append(to, fmt.Sprint(id), fmt.Sprint(name))
	}
	t.urlNames, t.urls = strings.NewReplacer(to...), strings.NewReplacer(from...)
	n.known.Store(t)
	return nil
}

func (n *names) request(m any) any {
	t := n.known.Load()
	if p, ok := m.(proto.Message); ok && t != nil {
		c := proto.Clone(p)
		rename(c.ProtoReflect(), t.requests, t.urls)
		return c
	}
	return m
}

func (n *names) answer(m any) {
	if p, ok := m.(proto.Message); ok && n.known.Load() != nil {
		t := n.known.Load()
		rename(p.ProtoReflect(), t.answers, t.urlNames)
		if l, ok := m.(interface{ GetMembers() []*pb.Member }); ok { // they came in the order of ids
			slices.SortFunc(l.GetMembers(), func(a, b *pb.Member) int { return cmp.Compare(a.ID, b.ID) })
		}
		if l, ok := m.(*pb.LeaseLeasesResponse); ok { // only a leader knows which expires first
			slices.SortFunc(l.Leases, func(a, b *pb.LeaseStatus) int { return cmp.Compare(a.ID, b.ID) })
		}
	}
}

func (n *names) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := call(ctx, method, n.request(req), reply, cc, opts...)
	if err == nil {
		n.answer(reply)
	}
	return err
}

func (n *names) stream(ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := open(ctx, d, cc, method, opts...)
	return &namedStream{s, n}, err
}

type namedStream struct {
	grpc.ClientStream
	n *names
}

func (s *namedStream) SendMsg(m any) error { return s.ClientStream.SendMsg(s.n.request(m)) }

func (s *namedStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err == nil {
		s.n.answer(m)
	}
	return err
}

// rename walks a message. The raft term becomes 2, what it is after one election: how many there were is chance.
func rename(m protoreflect.Message, ids map[uint64]uint64, urls *strings.Replacer) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if f.IsMap() {
			return true
		}
		if f.IsList() {
			l := v.List()
			for i := range l.Len() {
				if next, ok := renamed(f, l.Get(i), ids, urls); ok {
					l.Set(i, next)
				}
			}
			return true
		}
		if next, ok := renamed(f, v, ids, urls); ok {
			m.Set(f, next)
		}
		return true
	})
}

func renamed(f protoreflect.FieldDescriptor, v protoreflect.Value, ids map[uint64]uint64, urls *strings.Replacer) (protoreflect.Value, bool) {
	switch f.Kind() {
	case protoreflect.MessageKind:
		rename(v.Message(), ids, urls)
	case protoreflect.Uint64Kind:
		if f.Name() == "raft_term" || f.Name() == "raftTerm" {
			return protoreflect.ValueOfUint64(2), true
		}
		id, ok := ids[v.Uint()]
		return protoreflect.ValueOfUint64(id), ok
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(urls.Replace(v.String())), true
	}
	return v, false
}
