// Package archtest checks the rules of the architecture on the source text: which package may import which, what pure
// packages may use, how large a function, file, struct or interface may get, that packages and exported names are
// documented, and that a few calls are not made.
//
// It is a library of checks over parsed files plus the tables in tables.go; its test applies them to the whole module and
// also to small made-up sources, because a check that cannot fail is worth nothing. It does not type-check or build.
//
// Invariants: every exception is a row of budget.txt with a reason, and a row that is no longer needed is itself reported.
package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strings"
)

// Module is the module's import path.
const Module = "quorate.dev/quorate"

// Package is one parsed package directory of the module.
type Package struct {
	Path  string // relative to the module, "." for the root
	Files []*File
}

// File is one parsed file.
type File struct {
	Name  string // relative to the module
	Test  bool
	Lines int
	AST   *ast.File
	Fset  *token.FileSet
}

// Finding is one violation: where, which rule, and what to do instead.
type Finding struct {
	Rule, File, Name string
	Line, Value      int
	Text             string
}

func (f Finding) String() string {
	return fmt.Sprintf("%s:%d: [%s] %s: %s", f.File, f.Line, f.Rule, f.Name, f.Text)
}

// Load parses every Go file of the module rooted at root. Directories that are modules of their own, testdata and hidden
// directories are left out.
func Load(root fs.FS) ([]*Package, error) {
	byDir := map[string]*Package{}
	var order []*Package
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			base := path.Base(name)
			if name != "." && (strings.HasPrefix(base, ".") || base == "testdata" || base == "node_modules") {
				return fs.SkipDir
			}
			if _, err := fs.Stat(root, path.Join(name, "go.mod")); err == nil && name != "." {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		f, err := ParseFile(name, string(text))
		if err != nil {
			return err
		}
		dir := path.Dir(name)
		p := byDir[dir]
		if p == nil {
			p = &Package{Path: dir}
			byDir[dir] = p
			order = append(order, p)
		}
		p.Files = append(p.Files, f)
		return nil
	})
	return order, err
}

// ParseFile parses one file's text.
func ParseFile(name, text string) (*File, error) {
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, name, text, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	return &File{
		Name: filepath.ToSlash(name), Test: strings.HasSuffix(name, "_test.go"),
		Lines: strings.Count(text, "\n"), AST: tree, Fset: fset,
	}, nil
}

func (f *File) line(p token.Pos) int { return f.Fset.Position(p).Line }

func (f *File) imports() map[string]token.Pos {
	out := map[string]token.Pos{}
	for _, i := range f.AST.Imports {
		out[strings.Trim(i.Path.Value, `"`)] = i.Pos()
	}
	return out
}

// Check applies every rule.
func Check(pkgs []*Package) []Finding {
	var out []Finding
	for _, p := range pkgs {
		out = append(out, checkImports(p)...)
		out = append(out, checkPurity(p)...)
		out = append(out, checkSizes(p)...)
		out = append(out, checkDocs(p)...)
		out = append(out, checkCalls(p)...)
	}
	return out
}

// checkImports holds each package to its row of the import table.
func checkImports(p *Package) []Finding {
	allowed, known := mayImport[p.Path]
	var out []Finding
	for _, f := range p.Files {
		if f.Test {
			continue
		}
		if !known {
			out = append(out, Finding{Rule: "imports", File: f.Name, Line: 1, Name: p.Path,
				Text: "package has no row in the import table: add it to tables.go and to docs/ARCHITECTURE.md"})
			break
		}
		for name, pos := range f.imports() {
			if strings.HasPrefix(name, "go.etcd.io/etcd/server") || strings.HasPrefix(name, "go.etcd.io/etcd/etcd") {
				out = append(out, Finding{Rule: "imports", File: f.Name, Line: f.line(pos), Name: name,
					Text: "etcd's server packages are judges in test/compat and bench, never part of the product"})
			}
			local, ours := strings.CutPrefix(name, Module+"/")
			if ours && !covers(allowed, local) {
				out = append(out, Finding{Rule: "imports", File: f.Name, Line: f.line(pos), Name: p.Path,
					Text: "may not import " + local + "; allowed: " + strings.Join(allowed, ", ")})
			}
			if why := ownedBy(name, p.Path); why != "" {
				out = append(out, Finding{Rule: "imports", File: f.Name, Line: f.line(pos), Name: name, Text: why})
			}
		}
	}
	return out
}

func covers(allowed []string, name string) bool {
	for _, a := range allowed {
		if a == name || a == "*" {
			return true
		}
	}
	return false
}

// ownedBy says why a package may not import a library that belongs to others.
func ownedBy(library, pkg string) string {
	for _, o := range owners {
		if (library == o.library || strings.HasPrefix(library, o.library+"/")) && !covers(o.packages, pkg) {
			return "only " + strings.Join(o.packages, ", ") + " may import it: " + o.why
		}
	}
	return ""
}

// checkPurity keeps clocks, files, sockets, randomness, locks and goroutines out of the pure packages.
func checkPurity(p *Package) []Finding {
	if !covers(pure, p.Path) {
		return nil
	}
	var out []Finding
	for _, f := range p.Files {
		if f.Test {
			continue
		}
		for name, pos := range f.imports() {
			if why, banned := impure[name]; banned {
				out = append(out, Finding{Rule: "purity", File: f.Name, Line: f.line(pos), Name: name, Text: why})
			}
		}
		ast.Inspect(f.AST, func(n ast.Node) bool {
			if g, ok := n.(*ast.GoStmt); ok {
				out = append(out, Finding{Rule: "purity", File: f.Name, Line: f.line(g.Pos()), Name: "go",
					Text: "a pure package starts no goroutine: return the work as a value"})
			}
			return true
		})
	}
	return out
}

// checkCalls finds calls that have a better form here.
func checkCalls(p *Package) []Finding {
	var out []Finding
	for _, f := range p.Files {
		ast.Inspect(f.AST, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			id, ok := sel.X.(*ast.Ident)
			if !ok {
				return true
			}
			call := id.Name + "." + sel.Sel.Name
			for _, b := range bannedCalls {
				if b.call == call && b.test == f.Test && !covers(b.except, p.Path) {
					out = append(out, Finding{Rule: "calls", File: f.Name, Line: f.line(sel.Pos()), Name: call, Text: b.why})
				}
			}
			return true
		})
	}
	return out
}
