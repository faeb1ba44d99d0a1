package cli

// Verbs returns etcdctl's verbs that need a server.
func Verbs() []Verb {
	return []Verb{
		new(getFlags).verb(), new(putFlags).verb(), new(delFlags).verb(), txnVerb(), compactionVerb(),
		alarmVerb(), defragVerb(), endpointVerb(), moveLeaderVerb(), watchVerb(), leaseVerb(), memberVerb(), snapshotVerb(),
		mirrorVerb(), lockVerb(), electVerb(), authVerb(), userVerb(), roleVerb(), checkVerb(), downgradeVerb(),
	}
}
