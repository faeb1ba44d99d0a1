package faults

import (
	"quorate.dev/quorate/test/cluster"
)

// Network stands between the members of a cluster, and between them and their clients, for tests that part them at will. It is
// made of TCP proxies: no privilege is needed.
type Network struct {
	proxies   *proxies
	names     []string
	endpoints []string
}

// Between puts a cluster that was not started yet behind proxies. The members' own addresses stay reachable, for whoever judges.
func Between(c *cluster.Cluster) (*Network, error) {
	n := &Network{names: []string{Clients}}
	n.proxies = newProxies(func() map[string]int {
		out := map[string]int{}
		for _, m := range c.Members {
			if pid := m.PID(); pid != 0 {
				out[m.Name] = pid
			}
		}
		return out
	})
	for i, m := range c.Members {
		client, err := n.proxies.place(m, i)
		if err != nil {
			n.Close()
			return nil, err
		}
		n.names, n.endpoints = append(n.names, m.Name), append(n.endpoints, client)
	}
	return n, nil
}

// Endpoints are the members' addresses for clients that can be parted from them, host:port, in the order of the members.
func (n *Network) Endpoints() []string { return n.endpoints }

// PartFromMembers loses everything between one member and the others; connections stay and say nothing.
func (n *Network) PartFromMembers(m *cluster.Member) {
	n.proxies.set(n.names, func(from, to string, c *condition) {
		c.stalled = c.stalled || (from == m.Name || to == m.Name) && from != Clients && to != Clients
	})
}

// PartFromClients loses everything between one member and all that are no members.
func (n *Network) PartFromClients(m *cluster.Member) {
	n.proxies.set(n.names, func(from, to string, c *condition) {
		c.stalled = c.stalled || from == m.Name && to == Clients || from == Clients && to == m.Name
	})
}

// Heal lets everything through again; what was lost on connections that are still there arrives late.
func (n *Network) Heal() { n.proxies.heal(n.names, false) }

// Close ends it and its connections.
func (n *Network) Close() { n.proxies.close() }
