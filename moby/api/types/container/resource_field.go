// SPDX-License-Identifier: Apache-2.0

package container

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/blkiodev"
)

type (
	weightDevice   = *blkiodev.WeightDevice
	throttleDevice = *blkiodev.ThrottleDevice
)

// access is a field of Resources, of whatever type. Values are replaced and never
// written through: structs that were copied share what is behind a pointer.
type access struct {
	ref    func(r *Resources) any
	copy   func(dst, src *Resources)
	named  func(r *Resources) bool
	number func(r *Resources) (int64, bool) // if it has one
	set    func(r *Resources, n int64)      // its default
}

func value[T comparable](at func(*Resources) *T) access {
	var zero T
	return access{
		ref:    func(r *Resources) any { return at(r) },
		copy:   func(dst, src *Resources) { *at(dst) = *at(src) },
		named:  func(r *Resources) bool { return *at(r) != zero },
		number: func(r *Resources) (int64, bool) { n, ok := any(*at(r)).(int64); return n, ok && n != 0 },
		set: func(r *Resources, n int64) {
			if v, ok := any(n).(T); ok {
				*at(r) = v
			}
		},
	}
}

func pointer[T int64 | uint32 | bool](at func(*Resources) **T) access {
	return access{
		ref:   func(r *Resources) any { return at(r) },
		copy:  func(dst, src *Resources) { *at(dst) = *at(src) },
		named: func(r *Resources) bool { return *at(r) != nil },
		number: func(r *Resources) (int64, bool) {
			switch p := any(*at(r)).(type) {
			case *int64:
				if p != nil {
					return *p, true
				}
			case *uint32:
				if p != nil {
					return int64(*p), true
				}
			}
			return 0, false
		},
		set: func(r *Resources, n int64) {
			p := new(T)
			switch p := any(p).(type) {
			case *int64:
				*p = n
			case *uint32:
				*p = uint32(n)
			}
			*at(r) = p
		},
	}
}

func list[T any](at func(*Resources) *[]T) access {
	return access{
		ref:    func(r *Resources) any { return at(r) },
		copy:   func(dst, src *Resources) { *at(dst) = *at(src) },
		named:  func(r *Resources) bool { return *at(r) != nil },
		number: func(*Resources) (int64, bool) { return 0, false },
		set:    func(r *Resources, _ int64) { *at(r) = []T{} },
	}
}

// Ref returns a pointer to the field in r, to encode or decode it.
func (f *ResourceField) Ref(r *Resources) any { return f.at.ref(r) }

// Named tells whether r, as an update, names the field. An empty list does: it clears.
func (f *ResourceField) Named(r *Resources) bool { return f.at.named(r) }

// Copy gives dst the value that src has.
func (f *ResourceField) Copy(dst, src *Resources) { f.at.copy(dst, src) }

// Number returns the value in r, if there is one and it is a number.
func (f *ResourceField) Number(r *Resources) (int64, bool) { return f.at.number(r) }

// SetNumber is the other way round. A list becomes empty.
func (f *ResourceField) SetNumber(r *Resources, n int64) { f.at.set(r, n) }

// IsNumber tells whether the field takes a number that has a range.
func (f *ResourceField) IsNumber() bool { return f.Kind != "" && f.Most != f.Least }

// Limits tells whether the value in r limits something. The default asks for what
// every container has anyway: it needs nothing of the host, so that a limit can be taken
// off where it cannot be enforced any more.
func (f *ResourceField) Limits(r *Resources) bool {
	if n, ok := f.Number(r); ok {
		return n != f.Default
	}
	if p, ok := f.Ref(r).(*[]NetPriority); ok {
		return len(*p) > 0
	}
	return f.Named(r)
}

// Assign gives dst, which stands for an update, the value that old has, or the default
// if it has none, since absent would mean "keep".
func (f *ResourceField) Assign(dst, old *Resources) {
	f.Copy(dst, old)
	if !f.Named(dst) && (f.Default != 0 || f.UpdateKind != "" || f.Kind != "") {
		f.SetNumber(dst, f.Default)
	}
}

// Check returns an error unless the value in r is in range. It says what the field
// takes, as [ResourceField.Takes] does.
func (f *ResourceField) Check(r *Resources) error {
	if n, ok := f.Number(r); ok && f.IsNumber() && !f.Allows(n) {
		return fmt.Errorf("invalid %s (--%s) %d: %s", f.Name, f.Flag, n, f.Takes())
	}
	return nil
}

// Allows tells whether a number is in range.
func (f *ResourceField) Allows(n int64) bool {
	return n == f.Default || n >= f.Least && n <= f.Most
}

// Takes puts the range into words.
func (f *ResourceField) Takes() string {
	switch {
	case f.Unit == UnitPriority:
		return fmt.Sprintf("must be between %d and %d, %d is the default", f.Least, f.Most, f.Default)
	case f.Unit == UnitBytes && f.Least == 1 && f.Most == math.MaxInt64:
		return "must be at least 1 byte, or -1 for no limit"
	default:
		return fmt.Sprintf("must be %d to %d %s, or %d for no limit", f.Least, f.Most, f.Unit, f.Default)
	}
}

// FlagTexts spells the value in r as the flag that sets it, once for each entry of a list.
func (f *ResourceField) FlagTexts(r *Resources) (texts []string) {
	if p, ok := f.Ref(r).(*[]NetPriority); ok {
		for _, p := range *p {
			texts = append(texts, fmt.Sprintf("--%s=%s:%d", f.Flag, p.Interface, p.Priority))
		}
	} else if n, ok := f.Number(r); ok {
		text := strconv.FormatInt(n, 10)
		if f.Unit == UnitClass {
			text = fmt.Sprintf("%x:%x", n>>16, n&0xffff)
		}
		texts = append(texts, "--"+f.Flag+"="+text)
	}
	return texts
}

// CompletionValues are values to offer for the flag, nil if there are none.
func (f *ResourceField) CompletionValues() []string {
	if f.Values != nil || !f.IsNumber() {
		return f.Values
	}
	return []string{strconv.FormatInt(f.Default, 10)}
}

// ResourceFieldSet is some of [ResourceFields].
type ResourceFieldSet []*ResourceField

// ResourceFieldsOf returns the fields whose kind of limit begins with prefix: "" is all
// of those that a daemon may not know.
func ResourceFieldsOf(prefix string) (set ResourceFieldSet) {
	for _, f := range ResourceFields {
		if f.Kind != "" && strings.HasPrefix(f.Kind, prefix) {
			set = append(set, f)
		}
	}
	return set
}

// ResourceFieldNamed returns the field of this name in JSON, nil if there is none.
func ResourceFieldNamed(name string) *ResourceField {
	i := slices.IndexFunc(ResourceFields, func(f *ResourceField) bool { return f.Name == name })
	if i < 0 {
		return nil
	}
	return ResourceFields[i]
}

// Named tells whether r, as an update, names one of the fields.
func (set ResourceFieldSet) Named(r Resources) bool {
	return slices.ContainsFunc(set, func(f *ResourceField) bool { return f.Named(&r) })
}

// Limits returns only those fields of r that are in the set and limit something.
func (set ResourceFieldSet) Limits(r Resources) (limits Resources) {
	for _, f := range set {
		if f.Limits(&r) {
			f.Copy(&limits, &r)
		}
	}
	return limits
}

// Overlay puts what over names on top of base.
func (set ResourceFieldSet) Overlay(base *Resources, over Resources) {
	for _, f := range set {
		if f.Named(&over) {
			f.Copy(base, &over)
		}
	}
}

// Check returns an error unless what r has is in range.
func (set ResourceFieldSet) Check(r Resources) error {
	for _, f := range set {
		if err := f.Check(&r); err != nil {
			return err
		}
	}
	return nil
}

// Flags spells what r has as the flags that set it. It is empty if there is nothing.
func (set ResourceFieldSet) Flags(r Resources) string {
	var texts []string
	for _, f := range set {
		texts = append(texts, f.FlagTexts(&r)...)
	}
	return strings.Join(texts, " ")
}

// Kinds lists the words of the fields' kinds of limit, each once, in order of the table.
func (set ResourceFieldSet) Kinds() (words []string) {
	for _, f := range set {
		if !slices.Contains(words, f.Kind) {
			words = append(words, f.Kind)
		}
	}
	return words
}

// Names lists the names in JSON, in order of the alphabet.
func (set ResourceFieldSet) Names() (names []string) {
	for _, f := range set {
		names = append(names, f.Name)
	}
	slices.Sort(names)
	return names
}
