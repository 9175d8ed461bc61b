// SPDX-License-Identifier: Apache-2.0

package container

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/cli/cli/command"
	"github.com/docker/cli/internal/lazyregexp"
	"github.com/docker/docker/api/types/container"
	"github.com/moby/term"
	"github.com/spf13/pflag"
	"gopkg.in/yaml.v3"
)

// resourcesFile is the value of a flag that takes a file with resources, as
// YAML or JSON with the API's field names.
type resourcesFile struct {
	// updateOnly refuses what an existing container cannot change.
	updateOnly bool

	path      string
	resources container.Resources
	fields    []resourceField
}

// maxResourcesFile is far more than all limits together can need, in bytes.
const maxResourcesFile = 1 << 20

// stdin is replaced by tests.
var stdin = os.Stdin

// Set reads a file, "-" is standard input. Anything in it that is not understood
// in full is an error which gives the line.
func (f *resourcesFile) Set(path string) error {
	file := stdin
	if path == "-" {
		// Also when a shell completes what comes behind it.
		if term.IsTerminal(stdin.Fd()) {
			return errors.New("standard input is a terminal: give it a file with limits")
		}
		path = "standard input"
	} else {
		var err error
		if file, err = os.Open(path); err != nil {
			return err
		}
		defer file.Close()
	}
	content, err := io.ReadAll(io.LimitReader(file, maxResourcesFile+1))
	if err != nil {
		return err
	}
	if len(content) > maxResourcesFile {
		return fmt.Errorf("%s: more than %d bytes", path, maxResourcesFile)
	}
	resources, fields, err := parseResources(content, f.updateOnly)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	f.path, f.resources, f.fields = path, resources, fields
	return nil
}

// Type is the name of the value's kind in help texts.
func (*resourcesFile) Type() string { return "string" }

func (f *resourcesFile) String() string { return f.path }

// has reports whether the file names the field.
func (f *resourcesFile) has(name string) bool {
	return slices.ContainsFunc(f.fields, func(field resourceField) bool { return field.Name == name })
}

// apply puts the fields that the file names into r, unless a flag gave them.
func (f *resourcesFile) apply(r *container.Resources, flags *pflag.FlagSet) {
	for _, field := range f.fields {
		to := field.of(r)
		// "--device" fills two lists; for lists it counts what is there.
		if flags.Changed(field.Flag) || to.Kind() == reflect.Slice && to.Len() > 0 {
			continue
		}
		to.Set(field.of(&f.resources))
	}
}

// check returns an error if the file names a limit that the daemon does not
// know and would ignore.
func (f *resourcesFile) check(details interface{ ServerInfo() command.ServerInfo }) error {
	for _, field := range f.fields {
		feature := field.Kind
		if f.updateOnly && feature == "" {
			feature = field.UpdateKind
		}
		if feature == "" {
			continue
		}
		if err := command.CheckResource(details, field.Name+" in "+f.path, feature); err != nil {
			return err
		}
	}
	return nil
}

// parseResources reads resources from YAML or JSON and returns the values and
// which fields were named. A field that is null counts as not named.
func parseResources(content []byte, updateOnly bool) (container.Resources, []resourceField, error) {
	fail := func(err error) (container.Resources, []resourceField, error) {
		return container.Resources{}, nil, err
	}
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	var doc yaml.Node
	if err := decoder.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return fail(err)
	}
	if doc.Kind == 0 || isNull(doc.Content[0]) {
		return fail(errors.New("names no resource"))
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return fail(errors.New("has more than one YAML document"))
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return fail(lineError(root, "must be a list of KEY: VALUE, such as \"Memory: 512m\""))
	}

	var (
		resources container.Resources
		fields    []resourceField
	)
	err := eachKey(root, "", func(key, value *yaml.Node) error {
		field, err := fileField(key, updateOnly)
		if err != nil || isNull(value) {
			return err
		}
		to := field.of(&resources)
		if err := field.decode(field.Name, value, to); err != nil {
			return err
		}
		if updateOnly && to.IsZero() {
			return lineError(value, "%w", keepsError(field.Name+": "+value.Value))
		}
		fields = append(fields, field)
		return nil
	})
	if err != nil {
		return fail(err)
	}
	if len(fields) == 0 {
		return fail(errors.New("names no resource"))
	}
	return resources, fields, nil
}

func fileField(key *yaml.Node, updateOnly bool) (resourceField, error) {
	i := slices.IndexFunc(resourceFields, func(f resourceField) bool { return f.Name == key.Value })
	switch {
	case key.Value == "KernelMemory" || key.Value == "KernelMemoryTCP":
		return resourceField{}, lineError(key, "%s is no longer supported: daemons ignore it", key.Value)
	case i < 0:
		return resourceField{}, unknownKey(key, "", reflect.TypeFor[container.Resources]())
	case updateOnly && resourceFields[i].Fixed:
		return resourceField{}, lineError(key, "%s cannot be changed in an existing container", key.Value)
	}
	return resourceFields[i], nil
}

// Other spellings of a number, such as 010 or 1_000, are not the same in
// every reader of YAML.
var plainNumber = lazyregexp.New(`^-?(0|[1-9][0-9]*)$`)

// decode puts a value of the file into a field, or into a part of it. The
// types are those of the API, so the names of keys come from the JSON tags;
// the YAML library only knows its own tags, and gives no line for unknown keys
// in nested values.
func (f resourceField) decode(path string, node *yaml.Node, to reflect.Value) error {
	if node.Kind == yaml.AliasNode {
		return lineError(node, "%s: aliases are not supported", path)
	}
	wrong := func(want string) error {
		got := node.Value
		switch node.Kind {
		case yaml.MappingNode:
			got = "a mapping"
		case yaml.SequenceNode:
			got = "a list"
		default:
			got = strconv.Quote(got)
		}
		return lineError(node, "%s: must be %s, not %s", path, want, got)
	}
	switch to.Kind() {
	case reflect.Pointer:
		v := reflect.New(to.Type().Elem())
		if err := f.decode(path, node, v.Elem()); err != nil {
			return err
		}
		to.Set(v)
	case reflect.Struct:
		if node.Kind != yaml.MappingNode {
			return wrong("a mapping")
		}
		return eachKey(node, path, func(key, value *yaml.Node) error {
			field := jsonField(to, key.Value)
			if !field.IsValid() {
				return unknownKey(key, path, to.Type())
			}
			if isNull(value) {
				return nil
			}
			return f.decode(path+"."+key.Value, value, field)
		})
	case reflect.Map:
		if node.Kind != yaml.MappingNode {
			return wrong("a mapping")
		}
		m := reflect.MakeMap(to.Type())
		err := eachKey(node, path, func(key, value *yaml.Node) error {
			v := reflect.New(to.Type().Elem()).Elem()
			if err := f.decode(path+"."+key.Value, value, v); err != nil {
				return err
			}
			m.SetMapIndex(reflect.ValueOf(key.Value), v)
			return nil
		})
		if err != nil {
			return err
		}
		to.Set(m)
	case reflect.Slice:
		if node.Kind != yaml.SequenceNode {
			return wrong("a list")
		}
		s := reflect.MakeSlice(to.Type(), len(node.Content), len(node.Content))
		for i, item := range node.Content {
			if err := f.decode(fmt.Sprintf("%s[%d]", path, i), item, s.Index(i)); err != nil {
				return err
			}
		}
		to.Set(s)
	case reflect.String:
		if node.Kind != yaml.ScalarNode {
			return wrong("a string")
		}
		if node.Tag != "!!str" {
			return lineError(node, "%s: must be a string, write it as \"%s\"", path, node.Value)
		}
		to.SetString(node.Value)
	case reflect.Bool:
		if node.Kind != yaml.ScalarNode || node.Tag != "!!bool" {
			return wrong("true or false")
		}
		to.SetBool(strings.EqualFold(node.Value, "true"))
	case reflect.Int, reflect.Int64, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return f.decodeNumber(path, node, to, wrong)
	default:
		return lineError(node, "%s: cannot be set from a file", path)
	}
	return nil
}

func (f resourceField) decodeNumber(path string, node *yaml.Node, to reflect.Value, wrong func(string) error) error {
	want := "a whole number"
	if f.example != "" {
		want += fmt.Sprintf(", or a string such as %q", f.example)
	}
	isNumber := node.Tag == "!!int" && plainNumber.MatchString(node.Value)
	// To YAML that is a number, but not to JSON.
	isHex := f.Unit == container.UnitClass && node.Tag == "!!int" && strings.HasPrefix(node.Value, "0x")
	if node.Kind != yaml.ScalarNode || !isNumber && !isHex && (f.example == "" || node.Tag != "!!str") {
		return wrong(want)
	}
	if f.parse != nil {
		n, err := f.parse(node.Value)
		if err != nil {
			return lineError(node, "%s: invalid value %q: %w", path, node.Value, err)
		}
		if !isNumber {
			node = &yaml.Node{Line: node.Line, Value: strconv.FormatInt(n, 10)}
		}
	}
	// Not what parse returned: it computes in float64, and loses bytes.
	if to.CanUint() {
		n, err := strconv.ParseUint(node.Value, 10, to.Type().Bits())
		if err != nil {
			return lineError(node, "%s: must be 0 to %d, not %s", path, uint64(1<<to.Type().Bits()-1), node.Value)
		}
		to.SetUint(n)
		return nil
	}
	n, err := strconv.ParseInt(node.Value, 10, to.Type().Bits())
	if err != nil {
		return lineError(node, "%s: %s is out of range", path, node.Value)
	}
	to.SetInt(n)
	return nil
}

// eachKey calls fn for each key of a mapping, which must be strings and occur
// once.
func eachKey(mapping *yaml.Node, path string, fn func(key, value *yaml.Node) error) error {
	lines := make(map[string]int)
	for i := 0; i < len(mapping.Content); i += 2 {
		key, value := mapping.Content[i], mapping.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.Tag != "!!str" {
			return lineError(key, "%sa key must be a name", prefix(path))
		}
		if first, ok := lines[key.Value]; ok {
			return lineError(key, "%s%s is already set in line %d", prefix(path), key.Value, first)
		}
		lines[key.Value] = key.Line
		if err := fn(key, value); err != nil {
			return err
		}
	}
	return nil
}

func unknownKey(key *yaml.Node, path string, known reflect.Type) error {
	for i := range known.NumField() {
		if name := jsonName(known.Field(i)); strings.EqualFold(name, key.Value) {
			return lineError(key, "%sunknown key %q: did you mean %s?", prefix(path), key.Value, name)
		}
	}
	return lineError(key, "%sunknown key %q", prefix(path), key.Value)
}

func prefix(path string) string {
	if path == "" {
		return ""
	}
	return path + ": "
}

func isNull(node *yaml.Node) bool {
	return node.Kind == yaml.ScalarNode && node.Tag == "!!null"
}

func lineError(node *yaml.Node, format string, args ...any) error {
	return fmt.Errorf("line %d: "+format, append([]any{node.Line}, args...)...)
}

// writeResources writes the updatable resources that have a value in r as a
// file that [parseResources] reads.
func writeResources(w io.Writer, r *container.Resources) error {
	fields := setUpdatable(r)
	if len(fields) == 0 {
		_, err := fmt.Fprintln(w, "# no resource is limited")
		return err
	}
	root := &yaml.Node{Kind: yaml.MappingNode}
	for _, f := range fields {
		var value yaml.Node
		if err := encode(reflect.Indirect(f.of(r)), &value); err != nil {
			return err
		}
		root.Content = append(root.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: f.Name}, &value)
	}
	content, err := yaml.Marshal(root)
	if err != nil {
		return err
	}
	_, err = w.Write(content)
	return err
}

// encode makes YAML of a value. Lists go through JSON, which knows the names
// of their keys.
func encode(v reflect.Value, node *yaml.Node) error {
	if v.Kind() != reflect.Slice {
		return node.Encode(v.Interface())
	}
	content, err := json.Marshal(v.Interface())
	if err != nil {
		return err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(content, &doc); err != nil {
		return err
	}
	*node = *doc.Content[0]
	plainStyle(node)
	return nil
}

// plainStyle takes JSON's braces and quotes off where YAML can do without.
func plainStyle(node *yaml.Node) {
	node.Style = 0
	for _, child := range node.Content {
		plainStyle(child)
	}
}
