package grpcapi

import (
	"google.golang.org/protobuf/encoding/protowire"

	"quorate.dev/quorate/audit"
)

// auditRow says how much a method can change, and where in its request the audit log finds what it is about: the numbers of
// fields, 0 for what the request does not have. What has no number here, such as values and passwords, is never looked at.
type auditRow struct {
	class   audit.Class
	changes protowire.Number // a field without which the request only reads
	action  audit.Action

	in       protowire.Number // key, end and lease are in the message of this field
	key, end protowire.Number
	lease    protowire.Number

	user, role protowire.Number
	member     protowire.Number
	compact    protowire.Number

	special func(e *audit.Entry, msg []byte) audit.Class // instead of the numbers
}

const (
	auditAuth        = "/etcdserverpb.Auth/"
	auditMaintenance = "/etcdserverpb.Maintenance/"
	auditCluster     = "/etcdserverpb.Cluster/"
	auditElection    = "/v3electionpb.Election/"
)

// auditRows has every method (source: etcd v3.7 api/etcdserverpb/rpc.proto, v3lock.proto and v3election.proto).
var auditRows = map[string]*auditRow{
	"/etcdserverpb.KV/Range":       {class: audit.Read, key: 1, end: 2},
	"/etcdserverpb.KV/RangeStream": {class: audit.Read, key: 1, end: 2},
	"/etcdserverpb.KV/Put":         {class: audit.Write, action: audit.Put, key: 1, lease: 3},
	"/etcdserverpb.KV/DeleteRange": {class: audit.Write, action: audit.Delete, key: 1, end: 2},
	"/etcdserverpb.KV/Txn":         {class: audit.Write, special: auditTxn},
	"/etcdserverpb.KV/Compact":     {class: audit.Management, compact: 1},

	"/etcdserverpb.Watch/Watch": {class: audit.Read},

	"/etcdserverpb.Lease/LeaseGrant":      {class: audit.Write, lease: 2},
	"/etcdserverpb.Lease/LeaseRevoke":     {class: audit.Write, lease: 1},
	"/etcdserverpb.Lease/LeaseKeepAlive":  {class: audit.Write},
	"/etcdserverpb.Lease/LeaseTimeToLive": {class: audit.Read, lease: 1},
	"/etcdserverpb.Lease/LeaseLeases":     {class: audit.Read},

	auditCluster + "MemberAdd":     {class: audit.Management},
	auditCluster + "MemberRemove":  {class: audit.Management, member: 1},
	auditCluster + "MemberUpdate":  {class: audit.Management, member: 1},
	auditCluster + "MemberPromote": {class: audit.Management, member: 1},
	auditCluster + "MemberList":    {class: audit.Read},

	auditMaintenance + "Alarm":      {class: audit.Management, changes: 1, member: 2},
	auditMaintenance + "Status":     {class: audit.Read},
	auditMaintenance + "Defragment": {class: audit.Management},
	auditMaintenance + "Hash":       {class: audit.Read},
	auditMaintenance + "HashKV":     {class: audit.Read},
	auditMaintenance + "Snapshot":   {class: audit.Management},
	auditMaintenance + "MoveLeader": {class: audit.Management, member: 1},
	auditMaintenance + "Downgrade":  {class: audit.Management},

	auditAuth + "AuthEnable":           {class: audit.Management},
	auditAuth + "AuthDisable":          {class: audit.Management},
	auditAuth + "AuthStatus":           {class: audit.Read},
	auditAuth + "Authenticate":         {class: audit.Management, user: 1},
	auditAuth + "UserAdd":              {class: audit.Management, user: 1},
	auditAuth + "UserGet":              {class: audit.Read, user: 1},
	auditAuth + "UserList":             {class: audit.Read},
	auditAuth + "UserDelete":           {class: audit.Management, user: 1},
	auditAuth + "UserChangePassword":   {class: audit.Management, user: 1},
	auditAuth + "UserGrantRole":        {class: audit.Management, user: 1, role: 2},
	auditAuth + "UserRevokeRole":       {class: audit.Management, user: 1, role: 2},
	auditAuth + "RoleAdd":              {class: audit.Management, role: 1},
	auditAuth + "RoleGet":              {class: audit.Read, role: 1},
	auditAuth + "RoleList":             {class: audit.Read},
	auditAuth + "RoleDelete":           {class: audit.Management, role: 1},
	auditAuth + "RoleGrantPermission":  {class: audit.Management, special: auditPermission},
	auditAuth + "RoleRevokePermission": {class: audit.Management, role: 1, action: audit.Both, key: 2, end: 3},

	"/v3lockpb.Lock/Lock":      {class: audit.Write, action: audit.Put, key: 1, lease: 2},
	"/v3lockpb.Lock/Unlock":    {class: audit.Write, action: audit.Delete, key: 1},
	auditElection + "Campaign": {class: audit.Write, action: audit.Put, key: 1, lease: 2},
	auditElection + "Proclaim": {class: audit.Write, action: audit.Put, in: 1, key: 2, lease: 4},
	auditElection + "Resign":   {class: audit.Write, action: audit.Delete, in: 1, key: 2, lease: 4},
	auditElection + "Leader":   {class: audit.Read, key: 1},
	auditElection + "Observe":  {class: audit.Read, key: 1},

	"/grpc.health.v1.Health/Check":                                   {class: audit.Read},
	"/grpc.health.v1.Health/List":                                    {class: audit.Read},
	"/grpc.health.v1.Health/Watch":                                   {class: audit.Read},
	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      {class: audit.Read},
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": {class: audit.Read},
}

// unknownRow is for a method that was forgotten: it is recorded, and nothing of its request is.
var unknownRow = &auditRow{class: audit.Management}

func auditRowOf(method string) *auditRow {
	if row := auditRows[method]; row != nil {
		return row
	}
	return unknownRow
}

// fill says in e what a request is about, as far as it can be decoded, and returns its class.
func (r *auditRow) fill(e *audit.Entry, msg []byte) audit.Class {
	if r.special != nil {
		return r.special(e, msg)
	}
	class := r.class
	if r.changes != 0 {
		class = audit.Read
	}
	var user, role []byte
	_ = eachField(msg, func(num protowire.Number, _ protowire.Type, n uint64, data []byte) error {
		switch num {
		case r.user:
			user = data
		case r.role:
			role = data
		case r.member:
			e.Object.Member = n
		case r.compact:
			e.Object.Compact = int64(n)
		case r.changes:
			if n != 0 {
				class = r.class
			}
		case r.in:
			r.keys(e, data)
		}
		return nil
	})
	e.TargetUser(user)
	e.TargetRole(role)
	if r.in == 0 {
		r.keys(e, msg)
	}
	return class
}

// keys says which keys and which lease a message names.
func (r *auditRow) keys(e *audit.Entry, msg []byte) {
	if r.key == 0 && r.lease == 0 {
		return
	}
	var key, end []byte
	_ = eachField(msg, func(num protowire.Number, _ protowire.Type, n uint64, data []byte) error {
		switch num {
		case r.key:
			key = data
		case r.end:
			end = data
		case r.lease:
			e.Object.Lease = int64(n)
		}
		return nil
	})
	if r.key != 0 {
		e.Range(r.action, key, end)
	}
}

// The messages in a transaction, as rows.
var (
	auditCompare = &auditRow{action: audit.Get, key: 3, end: 64}
	auditOps     = [...]*auditRow{1: {action: audit.Get, key: 1, end: 2}, 2: {action: audit.Put, key: 1}, 3: {action: audit.Delete, key: 1, end: 2}}
)

// auditLevels is how deep transactions in transactions are looked at. A deeper one counts as one range that changes data.
const auditLevels = 16

func auditTxn(e *audit.Entry, msg []byte) audit.Class {
	class := audit.Read
	auditBranches(e, msg, auditLevels, &class)
	return class
}

// auditBranches lists what a transaction compares and may do, in both of its branches.
func auditBranches(e *audit.Entry, msg []byte, levels int, class *audit.Class) {
	if levels == 0 {
		*class = audit.Write
		e.More(1)
		return
	}
	_ = eachField(msg, func(num protowire.Number, _ protowire.Type, _ uint64, data []byte) error {
		switch num {
		case 1:
			auditCompare.keys(e, data)
		case 2, 3:
			auditOp(e, data, levels, class)
		}
		return nil
	})
}

func auditOp(e *audit.Entry, msg []byte, levels int, class *audit.Class) {
	_ = eachField(msg, func(num protowire.Number, _ protowire.Type, _ uint64, data []byte) error {
		switch num {
		case 2, 3:
			*class = audit.Write
			auditOps[num].keys(e, data)
		case 1:
			auditOps[num].keys(e, data)
		case 4:
			auditBranches(e, data, levels-1, class)
		}
		return nil
	})
}

// auditPermission reads a RoleGrantPermission: field 1 is the role, field 2 the permission.
func auditPermission(e *audit.Entry, msg []byte) audit.Class {
	var role []byte
	_ = eachField(msg, func(num protowire.Number, _ protowire.Type, _ uint64, data []byte) error {
		switch num {
		case 1:
			role = data
		case 2:
			row := auditRow{key: 2, end: 3}
			_ = eachField(data, func(num protowire.Number, _ protowire.Type, n uint64, _ []byte) error {
				if num == 1 {
					row.action = [...]audit.Action{audit.Get, audit.Put, audit.Both}[min(n, 2)]
				}
				return nil
			})
			row.keys(e, data)
		}
		return nil
	})
	e.TargetRole(role)
	return audit.Management
}
