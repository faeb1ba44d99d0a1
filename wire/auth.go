package wire

// Fields of InternalRaftRequest that concern authentication (source: etcd v3.7 api/etcdserverpb/raft_internal.proto).
const (
	FieldAuthEnable               int32 = 1000
	FieldAuthDisable              int32 = 1011
	FieldAuthenticate             int32 = 1012
	FieldAuthStatus               int32 = 1013
	FieldAuthUserAdd              int32 = 1100
	FieldAuthUserDelete           int32 = 1101
	FieldAuthUserGet              int32 = 1102
	FieldAuthUserChangePassword   int32 = 1103
	FieldAuthUserGrantRole        int32 = 1104
	FieldAuthUserRevokeRole       int32 = 1105
	FieldAuthUserList             int32 = 1106
	FieldAuthRoleList             int32 = 1107
	FieldAuthRoleAdd              int32 = 1200
	FieldAuthRoleDelete           int32 = 1201
	FieldAuthRoleGet              int32 = 1202
	FieldAuthRoleGrantPermission  int32 = 1203
	FieldAuthRoleRevokePermission int32 = 1204
)

// AuthNames is every request of etcdserverpb.Auth that consists of strings with the numbers 1 to 3:
//
//	AuthUserDeleteRequest          name
//	AuthUserGetRequest             name
//	AuthUserChangePasswordRequest  name, password, hashedPassword
//	AuthUserGrantRoleRequest       user, role
//	AuthUserRevokeRoleRequest      name, role
//	AuthRoleAddRequest             name
//	AuthRoleDeleteRequest          role
//	AuthRoleGetRequest             role
//	InternalAuthenticateRequest    name, password, simple_token
type AuthNames struct {
	First, Second, Third string
}

// AuthUserAddRequest is etcdserverpb.AuthUserAddRequest.
type AuthUserAddRequest struct {
	Name           string           // 1
	Password       string           // 2: empty in the log since etcd 3.5
	Options        *AuthUserOptions // 3
	HashedPassword string           // 4: base64 of the bcrypt string
}

// AuthUserOptions is authpb.UserAddOptions.
type AuthUserOptions struct {
	NoPassword bool // 1
}

// AuthPermissionType is the enum authpb.Permission.Type.
type AuthPermissionType int32

// Types of permissions.
const (
	AuthRead      AuthPermissionType = 0
	AuthWrite     AuthPermissionType = 1
	AuthReadWrite AuthPermissionType = 2
)

// AuthPermission is authpb.Permission.
type AuthPermission struct {
	Type     AuthPermissionType // 1
	Key      []byte             // 2
	RangeEnd []byte             // 3
}

// AuthRoleGrantPermissionRequest is etcdserverpb.AuthRoleGrantPermissionRequest.
type AuthRoleGrantPermissionRequest struct {
	Name string          // 1
	Perm *AuthPermission // 2
}

// AuthRoleRevokePermissionRequest is etcdserverpb.AuthRoleRevokePermissionRequest.
type AuthRoleRevokePermissionRequest struct {
	Role     string // 1
	Key      []byte // 2
	RangeEnd []byte // 3
}

// AuthUser is authpb.User: the record of a user.
type AuthUser struct {
	Name     []byte           // 1
	Password []byte           // 2: the bcrypt string
	Roles    []string         // 3
	Options  *AuthUserOptions // 4
}

// AuthRole is authpb.Role: the record of a role.
type AuthRole struct {
	Name        []byte           // 1
	Permissions []AuthPermission // 2
}

// Unmarshal replaces m by the message in b.
func (m *AuthNames) Unmarshal(b []byte) error {
	*m = AuthNames{}
	for i := 0; i < len(b); {
		f, end := next(b, i)
		switch {
		case end < 0:
		case f.tag == 1<<3|typeBytes:
			m.First, end = text(f.data, end)
		case f.tag == 2<<3|typeBytes:
			m.Second, end = text(f.data, end)
		case f.tag == 3<<3|typeBytes:
			m.Third, end = text(f.data, end)
		}
		if end < 0 {
			return malformed("AuthNames", i, end)
		}
		i = end
	}
	return nil
}

// Size is the length of what Append writes, in bytes.
func (m *AuthNames) Size() int {
	return sizeBytes(m.First) + sizeBytes(m.Second) + sizeBytes(m.Third)
}

// Append appends the encoded message to dst.
func (m *AuthNames) Append(dst []byte) []byte {
	return appendBytes(appendBytes(appendBytes(dst, 1, m.First), 2, m.Second), 3, m.Third)
}

// mergeOptions merges an encoded UserAddOptions into what p points to, which is made when it is nil.
func mergeOptions(p **AuthUserOptions, b []byte) error {
	if *p == nil {
		*p = &AuthUserOptions{}
	}
	for i := 0; i < len(b); {
		f, end := next(b, i)
		if end < 0 {
			return malformed("UserAddOptions", i, end)
		}
		if f.tag == 1<<3|typeVarint {
			(*p).NoPassword = f.v != 0
		}
		i = end
	}
	return nil
}

func (m *AuthUserOptions) size() int {
	if m == nil {
		return 0
	}
	return sizeLen(sizeBool(m.NoPassword))
}

func (m *AuthUserOptions) append(dst []byte, num byte) []byte {
	if m == nil {
		return dst
	}
	return appendBool(appendLen(dst, num, sizeBool(m.NoPassword)), 1, m.NoPassword)
}

// Unmarshal replaces m by the message in b.
func (m *AuthUserAddRequest) Unmarshal(b []byte) error {
	*m = AuthUserAddRequest{}
	for i := 0; i < len(b); {
		f, end := next(b, i)
		switch {
		case end < 0:
		case f.tag == 1<<3|typeBytes:
			m.Name, end = text(f.data, end)
		case f.tag == 2<<3|typeBytes:
			m.Password, end = text(f.data, end)
		case f.tag == 3<<3|typeBytes:
			if err := mergeOptions(&m.Options, f.data); err != nil {
				return err
			}
		case f.tag == 4<<3|typeBytes:
			m.HashedPassword, end = text(f.data, end)
		}
		if end < 0 {
			return malformed("AuthUserAddRequest", i, end)
		}
		i = end
	}
	return nil
}

// Size is the length of what Append writes, in bytes.
func (m *AuthUserAddRequest) Size() int {
	return sizeBytes(m.Name) + sizeBytes(m.Password) + m.Options.size() + sizeBytes(m.HashedPassword)
}

// Append appends the encoded message to dst.
func (m *AuthUserAddRequest) Append(dst []byte) []byte {
	dst = appendBytes(appendBytes(dst, 1, m.Name), 2, m.Password)
	return appendBytes(m.Options.append(dst, 3), 4, m.HashedPassword)
}

func (m *AuthPermission) merge(b []byte) error {
	for i := 0; i < len(b); {
		f, end := next(b, i)
		if end < 0 {
			return malformed("Permission", i, end)
		}
		i = end
		switch f.tag {
		case 1<<3 | typeVarint:
			m.Type = AuthPermissionType(f.v)
		case 2<<3 | typeBytes:
			m.Key = f.data
		case 3<<3 | typeBytes:
			m.RangeEnd = f.data
		}
	}
	return nil
}

func (m *AuthPermission) size() int {
	return sizeInt(int64(m.Type)) + sizeBytes(m.Key) + sizeBytes(m.RangeEnd)
}

func (m *AuthPermission) append(dst []byte) []byte {
	return appendBytes(appendBytes(appendInt(dst, 1, int64(m.Type)), 2, m.Key), 3, m.RangeEnd)
}

// Unmarshal replaces m by the message in b. Byte fields alias b.
func (m *AuthRoleGrantPermissionRequest) Unmarshal(b []byte) error {
	*m = AuthRoleGrantPermissionRequest{}
	for i := 0; i < len(b); {
		f, end := next(b, i)
		switch {
		case end < 0:
		case f.tag == 1<<3|typeBytes:
			m.Name, end = text(f.data, end)
		case f.tag == 2<<3|typeBytes:
			if m.Perm == nil {
				m.Perm = &AuthPermission{}
			}
			if err := m.Perm.merge(f.data); err != nil {
				return err
			}
		}
		if end < 0 {
			return malformed("AuthRoleGrantPermissionRequest", i, end)
		}
		i = end
	}
	return nil
}

// Size is the length of what Append writes, in bytes.
func (m *AuthRoleGrantPermissionRequest) Size() int {
	n := sizeBytes(m.Name)
	if m.Perm != nil {
		n += sizeLen(m.Perm.size())
	}
	return n
}

// Append appends the encoded message to dst.
func (m *AuthRoleGrantPermissionRequest) Append(dst []byte) []byte {
	dst = appendBytes(dst, 1, m.Name)
	if m.Perm == nil {
		return dst
	}
	return m.Perm.append(appendLen(dst, 2, m.Perm.size()))
}

// Unmarshal replaces m by the message in b. Byte fields alias b.
func (m *AuthRoleRevokePermissionRequest) Unmarshal(b []byte) error {
	*m = AuthRoleRevokePermissionRequest{}
	for i := 0; i < len(b); {
		f, end := next(b, i)
		switch {
		case end < 0:
		case f.tag == 1<<3|typeBytes:
			m.Role, end = text(f.data, end)
		case f.tag == 2<<3|typeBytes:
			m.Key = f.data
		case f.tag == 3<<3|typeBytes:
			m.RangeEnd = f.data
		}
		if end < 0 {
			return malformed("AuthRoleRevokePermissionRequest", i, end)
		}
		i = end
	}
	return nil
}

// Size is the length of what Append writes, in bytes.
func (m *AuthRoleRevokePermissionRequest) Size() int {
	return sizeBytes(m.Role) + sizeBytes(m.Key) + sizeBytes(m.RangeEnd)
}

// Append appends the encoded message to dst.
func (m *AuthRoleRevokePermissionRequest) Append(dst []byte) []byte {
	return appendBytes(appendBytes(appendBytes(dst, 1, m.Role), 2, m.Key), 3, m.RangeEnd)
}

// Unmarshal replaces m by the message in b. Byte fields alias b.
func (m *AuthUser) Unmarshal(b []byte) error {
	*m = AuthUser{}
	for i := 0; i < len(b); {
		f, end := next(b, i)
		var role string
		switch {
		case end < 0:
		case f.tag == 1<<3|typeBytes:
			m.Name = f.data
		case f.tag == 2<<3|typeBytes:
			m.Password = f.data
		case f.tag == 3<<3|typeBytes:
			role, end = text(f.data, end)
			m.Roles = append(m.Roles, role)
		case f.tag == 4<<3|typeBytes:
			if err := mergeOptions(&m.Options, f.data); err != nil {
				return err
			}
		}
		if end < 0 {
			return malformed("User", i, end)
		}
		i = end
	}
	return nil
}

// Size is the length of what Append writes, in bytes.
func (m *AuthUser) Size() int {
	n := sizeBytes(m.Name) + sizeBytes(m.Password) + m.Options.size()
	for _, r := range m.Roles {
		n += sizeLen(len(r))
	}
	return n
}

// Append appends the encoded message to dst.
func (m *AuthUser) Append(dst []byte) []byte {
	dst = appendBytes(appendBytes(dst, 1, m.Name), 2, m.Password)
	for _, r := range m.Roles {
		dst = append(appendLen(dst, 3, len(r)), r...)
	}
	return m.Options.append(dst, 4)
}

// Unmarshal replaces m by the message in b. Byte fields alias b.
func (m *AuthRole) Unmarshal(b []byte) error {
	*m = AuthRole{}
	for i := 0; i < len(b); {
		f, end := next(b, i)
		if end < 0 {
			return malformed("Role", i, end)
		}
		i = end
		switch f.tag {
		case 1<<3 | typeBytes:
			m.Name = f.data
		case 2<<3 | typeBytes:
			var p AuthPermission
			if err := p.merge(f.data); err != nil {
				return err
			}
			m.Permissions = append(m.Permissions, p)
		}
	}
	return nil
}

// Size is the length of what Append writes, in bytes.
func (m *AuthRole) Size() int {
	n := sizeBytes(m.Name)
	for i := range m.Permissions {
		n += sizeLen(m.Permissions[i].size())
	}
	return n
}

// Append appends the encoded message to dst.
func (m *AuthRole) Append(dst []byte) []byte {
	dst = appendBytes(dst, 1, m.Name)
	for i := range m.Permissions {
		p := &m.Permissions[i]
		dst = p.append(appendLen(dst, 2, p.size()))
	}
	return dst
}
