package state

import (
	"slices"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/member"
	"quorate.dev/quorate/wire"
)

// contained says whether the CORRUPT alarms name so few members that the rest of the cluster can go on without them: each
// names a member, and the voters that are not named are a majority. The named ones are fenced then. An alarm that names nobody
// in particular, or that leaves no majority, concerns the whole cluster. Alarms of members that were removed concern nobody.
//
// All members must come to the same answer, so it follows from what is replicated alone.
func contained(list []wire.AlarmMember, members *member.View) bool {
	for _, a := range list {
		if _, known := members.Get(ids.MemberID(a.MemberID)); a.Alarm == wire.AlarmCorrupt && !known && !members.Removed(ids.MemberID(a.MemberID)) {
			return false
		}
	}
	voters, sound := 0, 0
	for _, m := range members.Members() {
		if m.IsLearner {
			continue
		}
		voters++
		if !named(list, m.ID) {
			sound++
		}
	}
	return sound > voters/2
}

// named says whether a CORRUPT alarm of the member is up.
func named(list []wire.AlarmMember, id ids.MemberID) bool {
	return slices.Contains(list, wire.AlarmMember{MemberID: uint64(id), Alarm: wire.AlarmCorrupt})
}

// Fenced says whether a CORRUPT alarm takes this one member out of service, while the others go on.
func (v *View) Fenced(id ids.MemberID) bool {
	return named(v.Alarms, id) && contained(v.Alarms, v.Members)
}

// Corrupt says whether a CORRUPT alarm stops the writes of the whole cluster.
func (v *View) Corrupt() bool {
	corrupt := slices.ContainsFunc(v.Alarms, func(a wire.AlarmMember) bool { return a.Alarm == wire.AlarmCorrupt })
	return corrupt && !contained(v.Alarms, v.Members)
}
