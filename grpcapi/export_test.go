package grpcapi

// AuditKnows reports whether the audit log has a row for a method.
func AuditKnows(method string) bool { return auditRows[method] != nil }
