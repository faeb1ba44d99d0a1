package auth

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	"quorate.dev/quorate/internal/canary"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wire"
)

// The records are etcd's (source: etcd v3.7 server/storage/schema/auth.go, auth_users.go, auth_roles.go): authEnabled is one
// byte, authRevision 8 bytes big-endian; users and roles are authpb messages under their names.
var (
	enabledKey  = storage.BucketKeyOf(storage.BucketAuth, []byte("authEnabled"))
	revisionKey = storage.BucketKeyOf(storage.BucketAuth, []byte("authRevision"))
)

// firstRevision is that of a state that was never changed. It is not stored.
const firstRevision = 1

// Open reads the state. Errors are failures of the disk or name the record that is damaged.
func Open(r storage.Reader) (*Table, error) {
	t := &Table{View: View{revision: firstRevision}}
	for _, bucket := range buckets {
		err := eachRecord(r, bucket, func(name, value []byte) bool { return t.read(bucket, name, value) })
		if err != nil {
			return nil, err
		}
	}
	if canary.On(canary.StalePermissions) {
		return t, nil
	}
	for i, u := range t.users {
		t.users[i] = t.with(u.User)
	}
	return t, nil
}

// buckets are those that hold the state.
var buckets = [...]byte{storage.BucketAuth, storage.BucketAuthUsers, storage.BucketAuthRoles}

// eachRecord calls f with the records of a bucket, ascending, until one is not good.
func eachRecord(r storage.Reader, bucket byte, f func(name, value []byte) (good bool)) error {
	it, err := r.Iter(storage.BucketBounds(bucket))
	if err != nil {
		return err
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		if !f(it.Key()[1:], it.Value()) {
			err = fmt.Errorf("auth: the record %q of bucket %q cannot be read: the store is damaged; restore it from a snapshot or another member", it.Key()[1:], bucket)
		}
	}
	if closing := it.Close(); err == nil {
		err = closing
	}
	return err
}

// read takes one record into the table. Both arguments are copied where they are kept.
func (t *Table) read(bucket byte, name, value []byte) (good bool) {
	switch bucket {
	case storage.BucketAuthUsers:
		var m wire.AuthUser
		if m.Unmarshal(slices.Clone(value)) != nil || string(m.Name) != string(name) {
			return false
		}
		slices.Sort(m.Roles) // as every version writes them; who has a role is found by that order
		u := &user{User: User{Name: string(m.Name), PasswordHash: m.Password, Roles: m.Roles}, access: noAccess}
		if m.Options != nil {
			u.options, u.NoPassword = true, m.Options.NoPassword
		}
		t.users = append(t.users, u)
	case storage.BucketAuthRoles:
		var m wire.AuthRole
		if m.Unmarshal(slices.Clone(value)) != nil || string(m.Name) != string(name) {
			return false
		}
		t.roles = append(t.roles, &Role{Name: string(m.Name), Permissions: m.Permissions})
	default:
		return t.readState(string(name), value)
	}
	return true
}

func (t *Table) readState(name string, value []byte) (good bool) {
	switch name {
	case "authEnabled":
		t.enabled = len(value) == 1 && value[0] == 1
		return len(value) == 1 && value[0] <= 1
	case "authRevision":
		if len(value) != 8 {
			return false
		}
		t.revision = binary.BigEndian.Uint64(value)
		return t.revision >= firstRevision
	}
	return true // of another version
}

func writeEnabled(b *storage.Batch, enabled bool) {
	v := []byte{0}
	if enabled {
		v[0] = 1
	}
	b.Set(enabledKey, v)
}

func writeRevision(b *storage.Batch, revision uint64) {
	b.Set(revisionKey, binary.BigEndian.AppendUint64(nil, revision))
}

func userKey(name string) []byte { return storage.BucketKeyOf(storage.BucketAuthUsers, []byte(name)) }
func roleKey(name string) []byte { return storage.BucketKeyOf(storage.BucketAuthRoles, []byte(name)) }

func writeUser(b *storage.Batch, u *User)      { b.Set(userKey(u.Name), u.record()) }
func writeRole(b *storage.Batch, r *Role)      { b.Set(roleKey(r.Name), r.record()) }
func deleteUser(b *storage.Batch, name string) { b.Delete(userKey(name)) }
func deleteRole(b *storage.Batch, name string) { b.Delete(roleKey(name)) }

func (u *User) record() []byte {
	m := wire.AuthUser{Name: []byte(u.Name), Password: u.PasswordHash, Roles: u.Roles}
	if u.options {
		m.Options = &wire.AuthUserOptions{NoPassword: u.NoPassword}
	}
	return m.Append(nil)
}

func (r *Role) record() []byte {
	m := wire.AuthRole{Name: []byte(r.Name), Permissions: r.Permissions}
	return m.Append(nil)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// hash adds one record to a hash.
func hash(h uint32, bucket byte, name string, value []byte) uint32 {
	head := binary.BigEndian.AppendUint64([]byte{bucket}, uint64(len(name)))
	h = crc32.Update(h, castagnoli, append(head, name...))
	return crc32.Update(crc32.Update(h, castagnoli, binary.BigEndian.AppendUint64(nil, uint64(len(value)))), castagnoli, value)
}

// Hash is a hash of the state as it decides requests. Members at the same place of the log have the same.
func (v *View) Hash() uint32 {
	enabled := []byte{0}
	if v.enabled {
		enabled[0] = 1
	}
	h := hash(0, storage.BucketAuth, "authEnabled", enabled)
	h = hash(h, storage.BucketAuth, "authRevision", binary.BigEndian.AppendUint64(nil, v.revision))
	for _, u := range v.users {
		h = hash(h, storage.BucketAuthUsers, u.Name, u.record())
		h = hash(h, 'r', u.Name, u.access.read.bytes())
		h = hash(h, 'w', u.Name, u.access.write.bytes())
	}
	for _, r := range v.roles {
		h = hash(h, storage.BucketAuthRoles, r.Name, r.record())
	}
	return h
}

func (s spans) bytes() []byte {
	var out []byte
	for _, one := range s {
		out = binary.BigEndian.AppendUint64(out, uint64(len(one.begin)))
		out = append(append(out, one.begin...), one.end...)
		out = append(out, 0, 0)
	}
	return out
}
