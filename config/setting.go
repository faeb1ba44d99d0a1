package config

import (
	"fmt"
	"strings"
)

// Kind is the form of a setting's value.
type Kind uint8

// The kinds. The comment names the value's form on the command line, and in the config file where that differs.
const (
	Text     Kind = iota // any text
	Bool                 // true or false; a flag given without a value means true
	Uint                 // an integer of at least 0
	Uint32               // an integer of 32 bits of at least 0
	Int                  // an integer
	Duration             // a Go duration such as 1m30s; file: integer nanoseconds
	URLs                 // comma-separated URLs, sorted, without duplicates
	Origins              // "*", or comma-separated URLs
	Hosts                // "*", or comma-separated host names, sorted, without duplicates
	List                 // comma-separated words in the order given; file: a list
	Outputs              // comma-separated words, sorted, without duplicates; file: a list
	Choice               // one of Setting.Choices
	Choices              // comma-separated words of Setting.Choices
	GateSet              // comma-separated Name=bool pairs of the feature gates
)

var kindNames = [...]string{"text", "bool", "integer >= 0", "32-bit integer >= 0", "integer", "duration", "URLs", "* or URLs", "* or host names", "list", "names",
	"one of", "some of", "Name=bool pairs"}

// String describes the kind in help texts.
func (k Kind) String() string { return kindNames[k] }

// State says what the server does with a setting.
type State uint8

// The states of a setting.
const (
	Active     State = iota // it does what it says
	Later                   // accepted; a warning says that it does nothing yet
	NoEffect                // accepted; a note says why this store does not need it
	Refused                 // starting is refused when it is set, because ignoring it would be unsafe
	Historical              // accepted silently for old command lines; takes any value
)

var stateNames = [...]string{"active", "accepted, not active yet", "accepted, no effect", "refused for now", "accepted, ignored"}

// String is the state as documents show it.
func (s State) String() string { return stateNames[s] }

// Section groups settings in help texts.
type Section uint8

// The sections, in the order of the help text.
const (
	SectionMember Section = iota
	SectionCluster
	SectionSecurity
	SectionAuth
	SectionMonitoring
	SectionLogging
	SectionTracing
	SectionFeatures
	SectionUnsafe
	SectionOther
)

var sectionNames = [...]string{"Member", "Clustering", "Security", "Auth", "Profiling and Monitoring", "Logging",
	"Distributed tracing", "Features", "Unsafe feature", "Other"}

// String is the heading of the section.
func (s Section) String() string { return sectionNames[s] }

// Setting is one row of the table.
type Setting struct {
	Name    string   // the flag; the variable is ETCD_ plus the name in upper case with underscores
	Section Section  // where the help text shows it
	Kind    Kind     // the form of its value
	Default string   // as it would be written on the command line
	Choices []string // the allowed values of Choice and Choices
	State   State    // what we do with it
	Why     string   // the reason, when State is not Active; completes "--name ..."
	Help    string   // one line
	More    string   // further lines for help and documents, may be empty
	File    string   // path of its key in the config file, "" for Name, "-" for none
	NoFlag  bool     // only settable in the config file
	Secret  bool     // never printed

	at func(*Config) any // the field that holds the value; nil keeps it as text
}

const notInFile = "-"

// Env is the environment variable that sets it.
func (s *Setting) Env() string {
	return "ETCD_" + strings.ToUpper(strings.ReplaceAll(s.Name, "-", "_"))
}

// Key is the path of its key in the config file, dots between nested maps; "" when the file cannot set it.
func (s *Setting) Key() string {
	switch s.File {
	case "":
		return s.Name
	case notInFile:
		return ""
	}
	return s.File
}

// Settings returns the table, in the order of the help text.
func Settings() []Setting { return append([]Setting(nil), table...) }

// lookup finds a row by its name, nil when there is none.
func lookup(name string) *Setting {
	if i, ok := byName[name]; ok {
		return &table[i]
	}
	return nil
}

var table = rows()

var byName = func() map[string]int {
	m := make(map[string]int, len(table))
	for i := range table {
		if _, dup := m[table[i].Name]; dup {
			panic(fmt.Sprintf("BUG: two settings are named %q", table[i].Name))
		}
		m[table[i].Name] = i
	}
	return m
}()

func rows() []Setting {
	var all []Setting
	for _, part := range [][]Setting{
		section(SectionMember, memberRows()),
		section(SectionCluster, clusterRows()), section(SectionCluster, discoveryRows()),
		section(SectionSecurity, clientTLSRows()), section(SectionSecurity, peerTLSRows()), section(SectionSecurity, webRows()),
		section(SectionAuth, authRows()),
		section(SectionMonitoring, monitoringRows()),
		section(SectionLogging, loggingRows()), section(SectionLogging, auditRows()),
		section(SectionTracing, tracingRows()),
		section(SectionFeatures, featureRows()),
		section(SectionUnsafe, unsafeRows()),
		section(SectionOther, otherRows()),
	} {
		all = append(all, part...)
	}
	return all
}

func section(s Section, rows []Setting) []Setting {
	for i := range rows {
		rows[i].Section = s
	}
	return rows
}
