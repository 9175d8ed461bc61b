// SPDX-License-Identifier: Apache-2.0

package container

import "github.com/docker/cli/cli/command/formatter"

const (
	defaultModresourcesTableFormat = "table {{.Container}}\t{{.Resource}}\t{{.Old}}\t{{.New}}"

	resourceHeader = "RESOURCE"
	oldHeader      = "OLD"
	newHeader      = "NEW"
)

// resourceChange is one resource of one container. The values are spelled as
// the flag takes them.
type resourceChange struct {
	container, resource, old, new string
}

// newModresourcesFormat returns a format for use with a modresources
// [formatter.Context].
func newModresourcesFormat(source string) formatter.Format {
	if source == formatter.TableFormatKey || source == "" {
		return defaultModresourcesTableFormat
	}
	return formatter.Format(source)
}

// modresourcesFormatWrite writes changes using the [formatter.Context].
func modresourcesFormatWrite(fmtCtx formatter.Context, changes []resourceChange) error {
	return fmtCtx.Write(newModresourcesContext(), func(format func(subContext formatter.SubContext) error) error {
		for _, change := range changes {
			if err := format(&modresourcesContext{c: change}); err != nil {
				return err
			}
		}
		return nil
	})
}

type modresourcesContext struct {
	formatter.HeaderContext
	c resourceChange
}

func newModresourcesContext() *modresourcesContext {
	return &modresourcesContext{
		HeaderContext: formatter.HeaderContext{
			Header: formatter.SubHeaderContext{
				"Container": containerHeader,
				"Resource":  resourceHeader,
				"Old":       oldHeader,
				"New":       newHeader,
			},
		},
	}
}

func (c *modresourcesContext) MarshalJSON() ([]byte, error) {
	return formatter.MarshalJSON(c)
}

func (c *modresourcesContext) Container() string { return c.c.container }

func (c *modresourcesContext) Resource() string { return c.c.resource }

func (c *modresourcesContext) Old() string { return c.c.old }

func (c *modresourcesContext) New() string { return c.c.new }
