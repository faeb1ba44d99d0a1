// Package ids holds the number types of the store, so that two numbers of different meaning cannot be mixed by accident.
//
// It is not a place for behaviour: only types, their zero values and their printed forms live here. Every other package
// may import it and it imports none.
//
// Invariants: conversions between these types are always written out at the call site.
package ids

import "strconv"

// Index is the position of an entry in the raft log. The first entry has index 1; 0 means "none".
type Index uint64

// Term is a raft term. 0 means "none".
type Term uint64

// Revision is the main part of an MVCC revision: the count of write transactions that changed the key space, plus one.
// A fresh store is at revision 1 and the first write makes revision 2. -1 means "never compacted" where that applies.
type Revision int64

// LeaseID identifies a lease. Positive when chosen by the store; 0 means "no lease".
type LeaseID int64

// MemberID identifies a member of the cluster. 0 means "none".
type MemberID uint64

// ClusterID identifies a cluster.
type ClusterID uint64

// Tick counts ticks of the raft clock (the heartbeat interval).
type Tick int64

// String is the identifier as etcd prints it: hexadecimal without padding.
func (id MemberID) String() string { return strconv.FormatUint(uint64(id), 16) }

// String is the identifier as etcd prints it: hexadecimal without padding.
func (id ClusterID) String() string { return strconv.FormatUint(uint64(id), 16) }

// String is the identifier as etcd's tools print it: hexadecimal without padding.
func (id LeaseID) String() string { return strconv.FormatInt(int64(id), 16) }
