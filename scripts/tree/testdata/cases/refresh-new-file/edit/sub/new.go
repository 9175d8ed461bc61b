// new

package sub
