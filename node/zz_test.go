package node_test
import ("fmt";"go.etcd.io/raft/v3/raftpb")
func (n *network) debug() { n.mu.Lock(); defer n.mu.Unlock(); n.heard = func(m *raftpb.Message) { fmt.Println(m.GetFrom(), m.GetTo(), m.GetType(), m.GetTerm(), m.GetIndex(), len(m.GetContext()), len(m.GetEntries()), n.cut) } }
