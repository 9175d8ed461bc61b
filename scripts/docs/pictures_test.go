// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"gotest.tools/v3/assert"
)

type svgText struct {
	Class  string  `xml:"class,attr"`
	X      float64 `xml:"x,attr"`
	Y      float64 `xml:"y,attr"`
	Size   string  `xml:"font-size,attr"`
	Anchor string  `xml:"text-anchor,attr"`
	Turned string  `xml:"transform,attr"`
	Text   string  `xml:",innerxml"`
}

type svgBox struct {
	Class  string  `xml:"class,attr"`
	X      float64 `xml:"x,attr"`
	Y      float64 `xml:"y,attr"`
	Width  float64 `xml:"width,attr"`
	Height float64 `xml:"height,attr"`
}

var (
	cssRule = regexp.MustCompile(`\.([a-z]+)\{([^}]*)\}`)
	svgTags = regexp.MustCompile(`<[^>]*>|&[a-z#0-9]+;`)
)

// A text must be in the frame, and in the box that it begins in, with whatever sans
// serif a renderer has: 0.58 em a character is a wide one.
func misplaced(data []byte) (faults []string, _ error) {
	var pic struct {
		ViewBox string    `xml:"viewBox,attr"`
		Size    float64   `xml:"font-size,attr"`
		Style   []string  `xml:"style"`
		Defs    []string  `xml:"defs>style"`
		Texts   []svgText `xml:"text"`
		Boxes   []svgBox  `xml:"rect"`
	}
	if err := xml.Unmarshal(data, &pic); err != nil {
		return nil, err
	}
	var width, height float64
	if _, err := fmt.Sscanf(pic.ViewBox, "0 0 %f %f", &width, &height); err != nil {
		return nil, fmt.Errorf("viewBox %q: %w", pic.ViewBox, err)
	}
	css := map[string]string{}
	for _, r := range cssRule.FindAllStringSubmatch(strings.Join(append(pic.Style, pic.Defs...), "\n"), -1) {
		css[r[1]] = r[2]
	}
	const em, slack = 0.58, 2
	for _, text := range pic.Texts {
		if text.Turned != "" {
			continue
		}
		size, anchor := pic.Size, text.Anchor
		for _, class := range strings.Fields(text.Class) {
			for _, p := range strings.Split(css[class], ";") {
				switch name, value, _ := strings.Cut(p, ":"); name {
				case "font-size":
					size, _ = strconv.ParseFloat(strings.TrimSuffix(value, "px"), 64)
				case "text-anchor":
					anchor = value
				}
			}
		}
		if n, err := strconv.ParseFloat(text.Size, 64); err == nil {
			size = n
		}
		words := svgTags.ReplaceAllStringFunc(text.Text, func(s string) string {
			if s[0] == '&' {
				return "x"
			}
			return ""
		})
		long := em * size * float64(utf8.RuneCountInString(words))
		from := text.X
		switch anchor {
		case "middle":
			from -= long / 2
		case "end":
			from -= long
		}
		fault := func(what string) {
			faults = append(faults, fmt.Sprintf("%q at %.0f,%.0f may be %.0f wide and leaves %s", words, text.X, text.Y, long, what))
		}
		if from < -slack || from+long > width+slack || text.Y < size*0.7 || text.Y > height {
			fault("the frame")
		}
		for _, b := range pic.Boxes {
			if !strings.Contains(b.Class, "box") || text.X < b.X || text.X > b.X+b.Width || text.Y < b.Y || text.Y > b.Y+b.Height {
				continue
			}
			if from < b.X-slack || from+long > b.X+b.Width+slack {
				fault("its box")
			}
		}
	}
	return faults, nil
}

func TestTextsOfPicturesStayInside(t *testing.T) {
	n := 0
	for _, pattern := range []string{"../../docs/*.svg", "../../docs/*/*.svg"} {
		files, err := filepath.Glob(pattern)
		assert.NilError(t, err)
		for _, file := range files {
			data, err := os.ReadFile(file)
			assert.NilError(t, err)
			faults, err := misplaced(data)
			assert.NilError(t, err, file)
			for _, f := range faults {
				t.Errorf("%s: %s", filepath.Base(file), f)
			}
			n++
		}
	}
	assert.Assert(t, n > 10, "only %d pictures", n)
}

func TestMisplaced(t *testing.T) {
	const head = `<svg viewBox="0 0 200 100" font-size="10"><style>.c{text-anchor:middle}</style><rect class="box" x="10" y="10" width="80" height="40"/>`
	for body, want := range map[string]string{
		`<text x="20" y="30">short</text>`:                                    "",
		`<text x="20" y="30">much too long for it</text>`:                     "its box",
		`<text class="c" x="50" y="30">in the middle!!</text>`:                "its box",
		`<text x="180" y="80">cut off</text>`:                                 "the frame",
		`<text x="195" y="80" text-anchor="end">at the end</text>`:            "",
		`<text x="120" y="120">below</text>`:                                  "the frame",
		`<text x="20" y="30">&amp;<tspan font-weight="bold">b</tspan></text>`: "",
	} {
		faults, err := misplaced([]byte(head + body + "</svg>"))
		assert.NilError(t, err)
		if want == "" {
			assert.Equal(t, len(faults), 0, "%s: %q", body, faults)
		} else {
			assert.Assert(t, len(faults) == 1 && strings.HasSuffix(faults[0], want), "%s: %q", body, faults)
		}
	}
}
