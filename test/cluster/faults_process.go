package cluster

// PID is the number of the member's process, 0 when there is none.
func (m *Member) PID() int {
	m.life.Lock()
	defer m.life.Unlock()
	if m.cmd == nil || m.cmd.Process == nil || m.ended() {
		return 0
	}
	return m.cmd.Process.Pid
}

// Ended reports whether the member has been started and its process has ended since, for whatever reason.
func (m *Member) Ended() bool {
	m.life.Lock()
	defer m.life.Unlock()
	return m.ended()
}

func (m *Member) ended() bool {
	if m.done == nil {
		return false
	}
	select {
	case <-m.done:
		return true
	default:
		return false
	}
}

// Spare is a process that may join the cluster, and is not one of Members. Its addresses, and flags that say whom it joins,
// are the caller's to set.
func (c *Cluster) Spare(name, dir string) *Member { return &Member{Name: name, Dir: dir, c: c} }
