package grpcapi

// AuditKnows reports whether the audit log has a row for a method.
func AuditKnows(method string) bool { return auditRows[method] != nil }

// AlarmText is how Status words an alarm.
var AlarmText = alarmText
