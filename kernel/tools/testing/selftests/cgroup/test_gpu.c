// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promises of the gpu controller, on cgroup v2 or v1, whichever has it mounted.
 *
 *   test_gpu [-f] [-n OPERATIONS] [-s SEED] [TEST]...
 *
 * Needs root and a DRM driver with dumb buffers; vgem will do, no GPU is needed.
 * Each driver found is tested. -f adds the tests under fault injection. -n is
 * the length of the random test (10000 operations), -s repeats one of its runs.
 */
#define _GNU_SOURCE

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <drm/drm.h>
#include <drm/qxl_drm.h>

#include "../kselftest.h"
#include "cgroup_util.h"

#define KB		1024L
#define NOBODY		65534
#define MAX_CARDS	8
#define MAX_HANDLES	4096

/* Ends the test. The reason is printed with both values. */
#define EXPECT_EQ(seen, wanted)						\
	do {								\
		long __seen = (seen), __wanted = (wanted);		\
									\
		if (__seen != __wanted) {				\
			ksft_print_msg("line %d: %s is %ld, not %ld\n",	\
				       __LINE__, #seen, __seen,		\
				       __wanted);			\
			return KSFT_FAIL;				\
		}							\
	} while (0)

#define EXPECT(cond)							\
	do {								\
		if (!(cond)) {						\
			ksft_print_msg("line %d: not so: %s\n",		\
				       __LINE__, #cond);		\
			return KSFT_FAIL;				\
		}							\
	} while (0)

/* What the two versions call the files */
static const struct interface {
	const char *max, *current, *peak, *failures, *unlimited;
} v1_files = {
	"gpu.max_mem_in_bytes", "gpu.usage_in_bytes", "gpu.max_usage_in_bytes",
	"gpu.failcnt", "18446744073709551615\n",
}, v2_files = {
	"gpu.memory.max", "gpu.memory.current", "gpu.memory.peak",
	"gpu.memory.events.local", "max\n",
};

static const struct interface *file;
static bool v1;

static struct card {
	char path[32];
	char driver[32];
	bool prime;	/* exports and imports */
} cards[MAX_CARDS];
static int nr_cards;

static long stress_operations = 10000;
static unsigned int seed;

/*
 * Groups and actors of the running test. main() removes what is left of them,
 * newest first, whichever way the test ended.
 */
static char *groups[64];
static int nr_groups;

/* A process that does what it is told, so that a test can look in between. */
struct actor {
	pid_t pid;
	int sock;
};

static struct actor actors[64];
static int nr_actors;

/*
 * Groups
 */

static char *new_group(const char *parent, const char *name)
{
	char *path = cg_name(parent, name);

	if (!v1 && cg_write(parent, "cgroup.subtree_control", "+gpu"))
		ksft_exit_fail_msg("%s: cannot enable gpu\n", parent);
	if (cg_create(path))
		ksft_exit_fail_msg("%s: %s\n", path, strerror(errno));
	groups[nr_groups++] = path;
	return path;
}

static long usage(const char *group)
{
	return cg_read_long(group, file->current);
}

static long failures(const char *group)
{
	if (v1)
		return cg_read_long(group, file->failures);
	return cg_read_key_long(group, file->failures, "max ");
}

/* TTM drivers free from a worker: wait for usage to become what it should be. */
static long usage_after(const char *group, long wanted)
{
	long now;
	int i;

	for (i = 0; i < 500; i++) {
		now = usage(group);
		if (now == wanted)
			break;
		usleep(20000);
	}
	return now;
}

/* Returns 0 or -errno. cg_write() takes char *, which string constants are not. */
static int set(const char *group, const char *name, const char *value)
{
	return cg_write(group, name, (char *)value);
}

static int set_max(const char *group, long bytes)
{
	return cg_write_numeric(group, file->max, bytes);
}

/*
 * Buffers
 */

static int dumb_create(int fd, uint32_t width, uint32_t height,
		       uint32_t *handle)
{
	struct drm_mode_create_dumb arg = {
		.width = width, .height = height, .bpp = 32,
	};

	*handle = 0;
	if (ioctl(fd, DRM_IOCTL_MODE_CREATE_DUMB, &arg))
		return -errno;
	*handle = arg.handle;
	return 0;
}

/* A row of 1024 pixels of 32 bits is a page, whatever a driver's alignment. */
static int buffer_create(int fd, uint32_t pages, uint32_t *handle)
{
	return dumb_create(fd, 1024, pages, handle);
}

static int buffer_close(int fd, uint32_t handle)
{
	struct drm_gem_close arg = { .handle = handle };

	return ioctl(fd, DRM_IOCTL_GEM_CLOSE, &arg) ? -errno : 0;
}

static int buffer_export(int fd, uint32_t handle)
{
	struct drm_prime_handle arg = {
		.handle = handle, .flags = DRM_CLOEXEC | DRM_RDWR,
	};

	return ioctl(fd, DRM_IOCTL_PRIME_HANDLE_TO_FD, &arg) ? -errno : arg.fd;
}

static int buffer_import(int fd, int dmabuf, uint32_t *handle)
{
	struct drm_prime_handle arg = { .fd = dmabuf };

	*handle = 0;
	if (ioctl(fd, DRM_IOCTL_PRIME_FD_TO_HANDLE, &arg))
		return -errno;
	*handle = arg.handle;
	return 0;
}

static void *buffer_map(int fd, uint32_t handle, uint32_t pages)
{
	struct drm_mode_map_dumb arg = { .handle = handle };
	void *map;

	if (ioctl(fd, DRM_IOCTL_MODE_MAP_DUMB, &arg))
		return NULL;
	map = mmap(NULL, pages * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
		   fd, arg.offset);
	return map == MAP_FAILED ? NULL : map;
}

/* From drivers/gpu/drm/cgroup_test/cgroup_test.h, which is no uapi header. */
struct drm_cgroup_test_order {
	int32_t priority;
	int32_t pad;
};

#define DRM_IOCTL_CGROUP_TEST_ORDER	DRM_IOWR(DRM_COMMAND_BASE + 3, \
						 struct drm_cgroup_test_order)
#define NO_PLACE			LONG_MIN

/*
 * Where a context made by us would stand in an order of all, as i915 has one; only
 * the card of cgroup_test says it.
 */
static long place(int fd, int priority)
{
	struct drm_cgroup_test_order arg = { .priority = priority };

	return ioctl(fd, DRM_IOCTL_CGROUP_TEST_ORDER, &arg) ? NO_PLACE :
							      arg.priority;
}

static void find_cards(void)
{
	struct card *card = cards;
	uint32_t handle;
	int i, fd, dmabuf;

	for (i = 0; i < 64 && nr_cards < MAX_CARDS; i++) {
		struct drm_version version = {
			.name = card->driver,
			.name_len = sizeof(card->driver) - 1,
		};

		memset(card, 0, sizeof(*card));
		sprintf(card->path, "/dev/dri/card%d", i);
		fd = open(card->path, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (!ioctl(fd, DRM_IOCTL_VERSION, &version) &&
		    !buffer_create(fd, 1, &handle)) {
			dmabuf = buffer_export(fd, handle);
			card->prime = dmabuf >= 0;
			if (card->prime)
				close(dmabuf);
			ksft_print_msg("%s: %s%s\n", card->path, card->driver,
				       card->prime ? "" : ", no PRIME");
			card++;
			nr_cards++;
		}
		close(fd);
	}
}

static struct card *find_card(const char *driver)
{
	int i;

	for (i = 0; i < nr_cards; i++)
		if (!strcmp(cards[i].driver, driver))
			return &cards[i];
	return NULL;
}

/* The software GPU, which has a scheduler; %NULL if it is not there. */
static struct card *test_card(void)
{
	int i;

	for (i = 0; i < nr_cards; i++)
		if (!strcmp(cards[i].driver, "cgroup_test"))
			return &cards[i];
	return NULL;
}

/*
 * Actors
 */

enum op {
	OP_OPEN,	/* card: open it, dropping what was open */
	OP_DROP,	/* close the card */
	OP_CREATE,	/* arg: pages; returns 0 or -errno */
	OP_FILL,	/* arg: pages; create until ENOMEM; returns how many */
	OP_HUGE,	/* arg: number; ask for what cannot be, so many times */
	OP_CHURN,	/* arg: number; create and close a page; returns failures */
	OP_CLOSE,	/* the newest buffer */
	OP_CLOSE_ALL,
	OP_MAP,		/* arg: pages; map the newest and write to it */
	OP_UNMAP,
	OP_EXPORT,	/* the newest; returns a dma-buf */
	OP_IMPORT,	/* the dma-buf sent along */
	OP_SETUID,	/* arg: uid; give up root */
	OP_UNSHARE,	/* arg: namespaces */
	OP_FORK_CREATE,	/* arg: pages; let a child create on our open card */
	OP_EXEC,	/* arg: keep the card open? */
	OP_WRITE,	/* text: "FILE VALUE"; returns 0 or -errno */
	OP_MKDIR,	/* text: path */
	OP_PLACE,	/* arg: what a context asks; returns where it stands */
};

struct order {
	enum op op;
	int card;
	long arg;
	char text[512];
};

static int send_fd(int sock, const void *data, size_t len, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = {};
	struct iovec iov = { (void *)data, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *cmsg;

	if (fd >= 0) {
		msg.msg_control = control;
		msg.msg_controllen = sizeof(control);
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cmsg), &fd, sizeof(int));
	}
	return sendmsg(sock, &msg, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* Returns the file descriptor that came along in *fd, -1 if none did. */
static int recv_fd(int sock, void *data, size_t len, int *fd)
{
	char control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { data, len };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg;
	ssize_t n;

	*fd = -1;
	n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	if (n < 0)
		return -errno;
	cmsg = CMSG_FIRSTHDR(&msg);
	if (cmsg && cmsg->cmsg_type == SCM_RIGHTS)
		memcpy(fd, CMSG_DATA(cmsg), sizeof(int));
	return n ? 0 : -EPIPE;
}

static struct {
	int fd, nr;
	uint32_t handles[MAX_HANDLES];
	void *map;
	long mapped;
} mine = { .fd = -1 };

static long fork_create(long pages)
{
	uint32_t handle;
	int status;
	pid_t pid;

	pid = fork();
	if (!pid)
		_exit(-buffer_create(mine.fd, pages, &handle));
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -ECHILD;
	return -WEXITSTATUS(status);
}

static long perform(struct order *order, int fd, int *reply_fd)
{
	long ret = 0, i;
	char *space;
	uint32_t handle;

	switch (order->op) {
	case OP_OPEN:
	case OP_DROP:
		if (mine.fd >= 0)
			close(mine.fd);
		mine.fd = -1;
		mine.nr = 0;
		if (order->op == OP_DROP)
			return 0;
		mine.fd = open(cards[order->card].path, O_RDWR | O_CLOEXEC);
		return mine.fd < 0 ? -errno : 0;
	case OP_CREATE:
		ret = buffer_create(mine.fd, order->arg, &handle);
		if (!ret)
			mine.handles[mine.nr++] = handle;
		return ret;
	case OP_FILL:
		for (i = 0; mine.nr < MAX_HANDLES; i++) {
			ret = buffer_create(mine.fd, order->arg, &handle);
			if (ret)
				break;
			mine.handles[mine.nr++] = handle;
		}
		return ret == -ENOMEM ? i : -ERANGE;
	case OP_HUGE:
		for (i = 0; i < order->arg; i++)
			/* 2 GiB: DRM itself refuses 4 GiB, before any charge. */
			if (!dumb_create(mine.fd, 0x8000, 0x4000, &handle))
				return -EEXIST;
		return 0;
	case OP_CHURN:
		for (i = 0; i < order->arg; i++) {
			if (buffer_create(mine.fd, 1, &handle))
				ret++;
			else
				buffer_close(mine.fd, handle);
		}
		return ret;
	case OP_CLOSE:
		return buffer_close(mine.fd, mine.handles[--mine.nr]);
	case OP_CLOSE_ALL:
		while (mine.nr)
			ret |= buffer_close(mine.fd, mine.handles[--mine.nr]);
		return ret;
	case OP_MAP:
		mine.map = buffer_map(mine.fd, mine.handles[mine.nr - 1],
				      order->arg);
		if (!mine.map)
			return -errno;
		mine.mapped = order->arg * PAGE_SIZE;
		memset(mine.map, 1, mine.mapped);
		return 0;
	case OP_UNMAP:
		return munmap(mine.map, mine.mapped);
	case OP_EXPORT:
		*reply_fd = buffer_export(mine.fd, mine.handles[mine.nr - 1]);
		return *reply_fd < 0 ? *reply_fd : 0;
	case OP_IMPORT:
		ret = buffer_import(mine.fd, fd, &handle);
		if (!ret)
			mine.handles[mine.nr++] = handle;
		return ret;
	case OP_SETUID:
		if (setgid(order->arg) || setuid(order->arg))
			return -errno;
		return 0;
	case OP_UNSHARE:
		return unshare(order->arg) ? -errno : 0;
	case OP_FORK_CREATE:
		return fork_create(order->arg);
	case OP_EXEC:
		if (order->arg)
			fcntl(mine.fd, F_SETFD, 0);
		execl("/proc/self/exe", "test_gpu", "--sleep", NULL);
		return -errno;
	case OP_WRITE:
		space = strchr(order->text, ' ');
		*space = '\0';
		fd = open(order->text, O_WRONLY);
		if (fd < 0)
			return -errno;
		ret = write(fd, space + 1, strlen(space + 1)) < 0 ? -errno : 0;
		close(fd);
		return ret;
	case OP_MKDIR:
		return mkdir(order->text, 0755) ? -errno : 0;
	case OP_PLACE:
		return place(mine.fd, order->arg);
	}
	return -EINVAL;
}

static void actor_main(int sock)
{
	struct order order;
	int fd, reply_fd;
	long ret;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (!recv_fd(sock, &order, sizeof(order), &fd)) {
		reply_fd = -1;
		ret = perform(&order, fd, &reply_fd);
		if (fd >= 0)
			close(fd);
		send_fd(sock, &ret, sizeof(ret), reply_fd);
		if (reply_fd >= 0)
			close(reply_fd);
	}
	_exit(0);
}

static struct actor new_actor(const char *group)
{
	struct actor actor;
	int pair[2];

	fflush(stdout);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		ksft_exit_fail_msg("socketpair: %s\n", strerror(errno));
	actor.pid = fork();
	if (!actor.pid) {
		close(pair[0]);
		actor_main(pair[1]);
	}
	close(pair[1]);
	actor.sock = pair[0];
	if (actor.pid < 0 || cg_enter(group, actor.pid))
		ksft_exit_fail_msg("no process in %s\n", group);
	actors[nr_actors++] = actor;
	return actor;
}

static long tell_with(struct actor actor, struct order *order, int fd,
		      int *reply_fd)
{
	long ret;
	int dummy;

	ret = send_fd(actor.sock, order, sizeof(*order), fd);
	if (ret)
		return ret;
	if (recv_fd(actor.sock, &ret, sizeof(ret),
		    reply_fd ? reply_fd : &dummy))
		return -EPIPE;
	return ret;
}

static long tell(struct actor actor, enum op op, long arg)
{
	struct order order = { .op = op, .arg = arg };

	return tell_with(actor, &order, -1, NULL);
}

static long tell_open(struct actor actor, const struct card *card)
{
	struct order order = { .op = OP_OPEN, .card = card - cards };

	return tell_with(actor, &order, -1, NULL);
}

static long tell_import(struct actor actor, int dmabuf)
{
	struct order order = { .op = OP_IMPORT };

	return tell_with(actor, &order, dmabuf, NULL);
}

static int tell_export(struct actor actor)
{
	struct order order = { .op = OP_EXPORT };
	int fd;
	long ret = tell_with(actor, &order, -1, &fd);

	return ret ? ret : fd;
}

static long tell_write(struct actor actor, const char *group, const char *name,
		       const char *value)
{
	struct order order = { .op = OP_WRITE };

	snprintf(order.text, sizeof(order.text), "%s/%s %s", group, name,
		 value);
	return tell_with(actor, &order, -1, NULL);
}

static void end_actor(struct actor actor, int sig)
{
	close(actor.sock);
	if (sig)
		kill(actor.pid, sig);
	waitpid(actor.pid, NULL, 0);
}

static void clean_actors(void)
{
	while (nr_actors) {
		struct actor *actor = &actors[--nr_actors];

		/* Not if the test has ended it: the pid may be another's now. */
		if (!waitpid(actor->pid, NULL, WNOHANG)) {
			kill(actor->pid, SIGKILL);
			waitpid(actor->pid, NULL, 0);
			close(actor->sock);
		}
	}
}

static void clean_up(const char *root)
{
	clean_actors();
	cg_enter_current(root);
	while (nr_groups) {
		char *group = groups[--nr_groups];

		if (cg_destroy(group))
			ksft_print_msg("%s: %s\n", group, strerror(errno));
		free(group);
	}
}

/*
 * Files
 */

/*
 * The root has the usage file only. Elsewhere a cgroup starts without limit,
 * usage, peak, failures and priority. What only reports cannot be written.
 */
static int test_gpu_files(const char *root)
{
	static const char * const not_on_root[] = {
		"gpu.memory.max", "gpu.memory.peak", "gpu.memory.events",
		"gpu.memory.events.local", "gpu.priority",
		"gpu.max_mem_in_bytes", "gpu.max_usage_in_bytes", "gpu.failcnt",
	};
	char buf[64], *group;
	int i;

	for (i = 0; i < ARRAY_SIZE(not_on_root); i++)
		EXPECT_EQ(cg_read(root, not_on_root[i], buf, sizeof(buf)),
			  -ENOENT);
	EXPECT(usage(root) >= 0);

	group = new_group(root, "gpu_files");
	EXPECT_EQ(cg_read_strcmp(group, file->max, file->unlimited), 0);
	EXPECT_EQ(cg_read_strcmp(group, file->current, "0\n"), 0);
	EXPECT_EQ(cg_read_strcmp(group, file->peak, "0\n"), 0);
	EXPECT_EQ(cg_read_strcmp(group, file->failures, v1 ? "0\n" : "max 0\n"),
		  0);
	EXPECT_EQ(cg_read_strcmp(group, "gpu.priority", "0\n"), 0);
	EXPECT(set(group, file->current, "0") < 0);
	if (v1)
		return KSFT_PASS;

	EXPECT_EQ(cg_read_strcmp(group, "gpu.memory.events", "max 0\n"), 0);
	EXPECT(set(group, "gpu.memory.peak", "0") < 0);
	EXPECT(set(group, "gpu.memory.events", "0") < 0);
	EXPECT(set(group, "gpu.memory.events.local", "0") < 0);
	return KSFT_PASS;
}

/* The last part of where a link in sysfs leads to, or "". */
static const char *link_name(const char *fmt, ...)
{
	static char target[PATH_MAX];
	char path[PATH_MAX];
	ssize_t len;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	len = readlink(path, target, sizeof(target) - 1);
	target[len < 0 ? 0 : len] = '\0';
	return strrchr(target, '/') ? strrchr(target, '/') + 1 : target;
}

/* How many nodes DRM has, as sysfs shows them; what else is there has no number. */
static int count_nodes(void)
{
	DIR *dir = opendir("/sys/class/drm");
	struct dirent *entry;
	char path[PATH_MAX];
	int count = 0;

	while (dir && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), "/sys/class/drm/%s/dev",
			 entry->d_name);
		count += !access(path, F_OK);
	}
	if (dir)
		closedir(dir);
	return count;
}

/* The words of a node's line in gpu.devices, %NULL if it has none. */
static const char *device_words(const char *root, const char *path,
				const char *driver)
{
	static char text[4 * PAGE_SIZE];
	char start[256], device[128];
	struct stat st;
	char *line;
	int len;

	if (stat(path, &st) ||
	    cg_read(root, "gpu.devices", text, sizeof(text)))
		return NULL;
	snprintf(device, sizeof(device), "%s", link_name("/sys/dev/char/%u:%u/device",
							 major(st.st_rdev),
							 minor(st.st_rdev)));
	len = snprintf(start, sizeof(start), "%u:%u %s %s:%s",
		       major(st.st_rdev), minor(st.st_rdev), driver,
		       link_name("/sys/dev/char/%u:%u/device/subsystem",
				 major(st.st_rdev), minor(st.st_rdev)),
		       device);
	for (line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		if (!strncmp(line, start, len))
			return line + len;
	return NULL;
}

/*
 * gpu.devices has a line for each node that DRM has, by number, on the root
 * alone, and says what holds there.
 */
static int test_gpu_devices(const char *root)
{
	char text[4 * PAGE_SIZE], path[PATH_MAX], *line, *group;
	unsigned int maj, min;
	int i, fields, lines = 0;
	long last = -1;
	struct stat st;

	snprintf(path, sizeof(path), "%s/gpu.devices", root);
	EXPECT_EQ(stat(path, &st), 0);
	EXPECT_EQ(st.st_mode & 0777, 0444);
	EXPECT(set(root, "gpu.devices", "0") < 0);
	group = new_group(root, "gpu_devices");
	EXPECT_EQ(cg_read(group, "gpu.devices", text, sizeof(text)), -ENOENT);

	EXPECT_EQ(cg_read(root, "gpu.devices", text, sizeof(text)), 0);
	for (line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		fields = sscanf(line, "%u:%u ", &maj, &min);
		EXPECT_EQ(fields, 2);
		EXPECT((long)makedev(maj, min) > last);
		last = makedev(maj, min);
		/* Not amdgpu's KFD. */
		lines += maj == 226;
	}
	EXPECT_EQ(lines, count_nodes());

	for (i = 0; i < nr_cards; i++) {
		const char *words, *wanted = " memory";

		if (!strcmp(cards[i].driver, "cgroup_test"))
			wanted = " memory priority tree";
		words = device_words(root, cards[i].path, cards[i].driver);
		ksft_print_msg("%s:%s\n", cards[i].path, words ?: " no line");
		EXPECT(words && !strcmp(words, wanted));
	}
	return KSFT_PASS;
}

#define TEST_DRIVER	"/sys/bus/platform/drivers/cgroup_test/"

static int bind_to(const char *what, const char *device)
{
	char path[PATH_MAX];
	int fd, ret;

	snprintf(path, sizeof(path), TEST_DRIVER "%s", what);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = write(fd, device, strlen(device)) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

/*
 * A device that is gone has no line, whoever has it open still, and one that is
 * back has the same again.
 */
static int test_gpu_devices_unbind(const char *root)
{
	struct card *card = test_card();
	const char *words;
	int fd, ret;

	if (!card)
		return KSFT_SKIP;

	fd = open(card->path, O_RDWR | O_CLOEXEC);
	EXPECT(fd >= 0);
	EXPECT_EQ(bind_to("unbind", "cgroup_test"), 0);
	ret = cg_read_strstr(root, "gpu.devices", "cgroup_test");
	/* Or else it comes back under another number. */
	close(fd);
	EXPECT_EQ(bind_to("bind", "cgroup_test"), 0);
	EXPECT_EQ(ret, -1);
	words = device_words(root, card->path, card->driver);
	EXPECT(words && !strcmp(words, " memory priority tree"));
	return KSFT_PASS;
}

/*
 * A limit reads back as written, to the byte; white space around it does not
 * matter. What is no limit is refused and leaves the old one: garbage and empty
 * with EINVAL, too big for 64 bits with ERANGE.
 */
static int test_gpu_limit_values(const char *root)
{
	static const struct {
		const char *write;
		int err;
		const char *read;	/* NULL: no limit */
	} values[] = {
		{ "10240", 0, "10240\n" },
		{ "10240\n", 0, "10240\n" },
		{ " \t4097 \n", 0, "4097\n" },
		{ "10k", 0, "10240\n" },
		{ "3M", 0, "3145728\n" },
		{ "2g", 0, "2147483648\n" },
		{ "1T", 0, "1099511627776\n" },
		{ "1p", 0, "1125899906842624\n" },
		{ "15e", 0, "17293822569102704640\n" },
		{ "010", 0, "10\n" },
		{ "0", 0, "0\n" },
		{ "9223372036854775807", 0, "9223372036854775807\n" },
		{ "max", 0, NULL },
		{ "5", 0, "5\n" },
		{ "-1", 0, NULL },
		{ "5", 0, "5\n" },
		{ "18446744073709551615", 0, NULL },
		{ " max \n", 0, NULL },
		{ "7", 0, "7\n" },
		{ "\n", -EINVAL, "7\n" },
		{ " ", -EINVAL, "7\n" },
		{ "-2", -EINVAL, "7\n" },
		{ "-10k", -EINVAL, "7\n" },
		{ "none", -EINVAL, "7\n" },
		{ "maximum", -EINVAL, "7\n" },
		{ "k", -EINVAL, "7\n" },
		{ "1 k", -EINVAL, "7\n" },
		{ "1kk", -EINVAL, "7\n" },
		{ "1kb", -EINVAL, "7\n" },
		{ "1.5g", -EINVAL, "7\n" },
		{ "1 2", -EINVAL, "7\n" },
		{ "0x10", -EINVAL, "7\n" },
		{ "16e", -ERANGE, "7\n" },
		{ "18014398509481984k", -ERANGE, "7\n" },
		{ "18446744073709551616", -ERANGE, "7\n" },
		{ "99999999999999999999999999", -ERANGE, "7\n" },
	};
	char *group = new_group(root, "gpu_values");
	const char *wanted;
	char seen[64];
	int i, err;

	for (i = 0; i < ARRAY_SIZE(values); i++) {
		err = set(group, file->max, values[i].write);
		wanted = values[i].read ?: file->unlimited;
		EXPECT_EQ(cg_read(group, file->max, seen, sizeof(seen)), 0);
		if (err != values[i].err || strcmp(seen, wanted)) {
			ksft_print_msg("'%s': %d, reads %s, not %d, %s",
				       values[i].write, err, seen,
				       values[i].err, wanted);
			return KSFT_FAIL;
		}
	}
	return KSFT_PASS;
}

/* So does a priority, -1024 to 1024. */
static int test_gpu_priority_values(const char *root)
{
	static const struct {
		const char *write;
		int err;
		const char *read;
	} values[] = {
		{ "1024", 0, "1024\n" },
		{ "-1024\n", 0, "-1024\n" },
		{ " \t7 \n", 0, "7\n" },
		{ "-0", 0, "0\n" },
		{ "010", 0, "10\n" },
		{ "1025", -ERANGE, "10\n" },
		{ "-1025", -ERANGE, "10\n" },
		{ "4294967296", -ERANGE, "10\n" },
		{ "99999999999999999999999999", -ERANGE, "10\n" },
		{ "\n", -EINVAL, "10\n" },
		{ "max", -EINVAL, "10\n" },
		{ "0x10", -EINVAL, "10\n" },
		{ "1.5", -EINVAL, "10\n" },
		{ "1 2", -EINVAL, "10\n" },
		{ "5k", -EINVAL, "10\n" },
		{ "- 5", -EINVAL, "10\n" },
	};
	char *group = new_group(root, "gpu_priority");
	char seen[64];
	int i, err;

	for (i = 0; i < ARRAY_SIZE(values); i++) {
		err = set(group, "gpu.priority", values[i].write);
		EXPECT_EQ(cg_read(group, "gpu.priority", seen, sizeof(seen)), 0);
		if (err != values[i].err || strcmp(seen, values[i].read)) {
			ksft_print_msg("'%s': %d, reads %s, not %d, %s",
				       values[i].write, err, seen,
				       values[i].err, values[i].read);
			return KSFT_FAIL;
		}
	}
	return KSFT_PASS;
}

/*
 * The limit is exact and refuses with ENOMEM. It can be raised and lowered any
 * time; below present usage nothing is taken away, and new buffers are refused
 * until usage has dropped. A limit of 0 refuses everything.
 */
static int test_gpu_max(const char *root)
{
	char *group = new_group(root, "gpu_max");
	struct actor actor = new_actor(group);

	EXPECT_EQ(tell_open(actor, &cards[0]), 0);
	EXPECT_EQ(set_max(group, 10240), 0);
	EXPECT_EQ(tell(actor, OP_FILL, 1), 2);
	EXPECT_EQ(usage(group), 2 * PAGE_SIZE);

	EXPECT_EQ(set_max(group, 12288), 0);
	EXPECT_EQ(tell(actor, OP_FILL, 1), 1);
	EXPECT_EQ(usage(group), 12288);

	EXPECT_EQ(set_max(group, 4096), 0);
	EXPECT_EQ(usage(group), 12288);
	EXPECT_EQ(tell(actor, OP_CREATE, 1), -ENOMEM);
	EXPECT_EQ(tell(actor, OP_CLOSE, 0), 0);
	EXPECT_EQ(usage_after(group, 8192), 8192);
	EXPECT_EQ(tell(actor, OP_CREATE, 1), -ENOMEM);
	EXPECT_EQ(tell(actor, OP_CLOSE_ALL, 0), 0);
	EXPECT_EQ(usage_after(group, 0), 0);
	EXPECT_EQ(tell(actor, OP_CREATE, 1), 0);
	EXPECT_EQ(tell(actor, OP_CLOSE_ALL, 0), 0);

	EXPECT_EQ(set_max(group, 0), 0);
	EXPECT_EQ(tell(actor, OP_CREATE, 1), -ENOMEM);
	EXPECT_EQ(set(group, file->max, "max"), 0);
	EXPECT_EQ(tell(actor, OP_CREATE, 1), 0);
	return KSFT_PASS;
}

/*
 * A refusal counts in the cgroup whose limit it was, and on v2 in the
 * memory.events of its ancestors; the cgroups below, the caller's among them,
 * count nothing. On v1 writing 0 to failcnt resets it, and nothing else does.
 */
static int test_gpu_events(const char *root)
{
	char *top = new_group(root, "gpu_events");
	char *middle = new_group(top, "middle");
	char *leaf = new_group(middle, "leaf");
	struct actor actor = new_actor(leaf);

	EXPECT_EQ(tell_open(actor, &cards[0]), 0);
	EXPECT_EQ(set_max(middle, 8192), 0);
	EXPECT_EQ(tell(actor, OP_FILL, 1), 2);
	EXPECT_EQ(failures(middle), 1);
	EXPECT_EQ(tell(actor, OP_CREATE, 1), -ENOMEM);
	EXPECT_EQ(failures(middle), 2);
	EXPECT_EQ(failures(leaf), 0);
	EXPECT_EQ(failures(top), 0);
	if (v1) {
		EXPECT_EQ(set(middle, file->failures, "1"), -EINVAL);
		EXPECT_EQ(set(middle, file->failures, "x"), -EINVAL);
		EXPECT_EQ(failures(middle), 2);
		EXPECT_EQ(set(middle, file->failures, "0\n"), 0);
		EXPECT_EQ(failures(middle), 0);
		return KSFT_PASS;
	}
	EXPECT_EQ(cg_read_strcmp(leaf, "gpu.memory.events", "max 0\n"), 0);
	EXPECT_EQ(cg_read_strcmp(middle, "gpu.memory.events", "max 2\n"), 0);
	EXPECT_EQ(cg_read_strcmp(top, "gpu.memory.events", "max 2\n"), 0);

	EXPECT_EQ(set_max(leaf, 4096), 0);
	EXPECT_EQ(tell(actor, OP_CREATE, 1), -ENOMEM);
	EXPECT_EQ(failures(leaf), 1);
	EXPECT_EQ(failures(middle), 2);
	EXPECT_EQ(cg_read_strcmp(leaf, "gpu.memory.events", "max 1\n"), 0);
	EXPECT_EQ(cg_read_strcmp(middle, "gpu.memory.events", "max 3\n"), 0);
	EXPECT_EQ(cg_read_strcmp(top, "gpu.memory.events", "max 3\n"), 0);
	return KSFT_PASS;
}

static int watch(int inotify, const char *group, const char *name)
{
	char *path = cg_control(group, name);
	int wd = inotify_add_watch(inotify, path, IN_MODIFY);

	free(path);
	return wd;
}

/*
 * A refusal wakes poll() and inotify on memory.events, also in an ancestor, and
 * on memory.events.local of the cgroup whose limit it was.
 */
static int test_gpu_events_notify(const char *root)
{
	struct pollfd polled = { .events = POLLPRI };
	char *top, *leaf, *path, buf[64];
	struct actor actor;
	int inotify, i;

	if (v1)
		return KSFT_SKIP;

	top = new_group(root, "gpu_notify");
	leaf = new_group(top, "leaf");
	actor = new_actor(leaf);
	EXPECT_EQ(tell_open(actor, &cards[0]), 0);
	EXPECT_EQ(set_max(leaf, 0), 0);

	path = cg_control(top, "gpu.memory.events");
	polled.fd = open(path, O_RDONLY | O_CLOEXEC);
	free(path);
	EXPECT(polled.fd >= 0);
	EXPECT_EQ(read(polled.fd, buf, sizeof(buf)), strlen("max 0\n"));
	EXPECT_EQ(poll(&polled, 1, 100), 0);

	inotify = inotify_init1(IN_CLOEXEC);
	EXPECT(watch(inotify, leaf, "gpu.memory.events.local") >= 0);
	EXPECT_EQ(tell(actor, OP_CREATE, 1), -ENOMEM);
	EXPECT_EQ(poll(&polled, 1, 10000), 1);
	EXPECT(polled.revents & POLLPRI);
	EXPECT_EQ(cg_wait_for(inotify), 0);
	close(inotify);

	inotify = inotify_init1(IN_CLOEXEC);
	EXPECT(watch(inotify, top, "gpu.memory.events") >= 0);
	/* Notifications come at most every 10 ms. */
	for (i = 0; i < 3; i++) {
		usleep(20000);
		EXPECT_EQ(tell(actor, OP_CREATE, 1), -ENOMEM);
	}
	EXPECT_EQ(cg_wait_for(inotify), 0);
	close(inotify);
	close(polled.fd);
	return KSFT_PASS;
}

/*
 * The peak is the highest usage there was. It stays when usage drops, and what
 * an ancestor refused does not count. On v1 writing 0, and only 0, sets it to
 * present usage.
 */
static int test_gpu_peak(const char *root)
{
	char *parent = new_group(root, "gpu_peak");
	char *child = new_group(parent, "child");
	struct actor actor = new_actor(child);

	EXPECT_EQ(tell_open(actor, &cards[0]), 0);
	EXPECT_EQ(set_max(parent, 16 * PAGE_SIZE), 0);
	EXPECT_EQ(tell(actor, OP_CREATE, 4), 0);
	EXPECT_EQ(tell(actor, OP_CREATE, 2), 0);
	EXPECT_EQ(tell(actor, OP_CLOSE, 0), 0);
	EXPECT_EQ(usage_after(child, 4 * PAGE_SIZE), 4 * PAGE_SIZE);
	EXPECT_EQ(cg_read_long(child, file->peak), 6 * PAGE_SIZE);
	EXPECT_EQ(tell(actor, OP_CREATE, 1000), -ENOMEM);
	EXPECT_EQ(cg_read_long(child, file->peak), 6 * PAGE_SIZE);
	EXPECT_EQ(cg_read_long(parent, file->peak), 6 * PAGE_SIZE);
	if (!v1)
		return KSFT_PASS;

	EXPECT_EQ(set(child, file->peak, "1"), -EINVAL);
	EXPECT_EQ(set(child, file->peak, "max"), -EINVAL);
	EXPECT_EQ(cg_read_long(child, file->peak), 6 * PAGE_SIZE);
	EXPECT_EQ(set(child, file->peak, "0"), 0);
	EXPECT_EQ(cg_read_long(child, file->peak), 4 * PAGE_SIZE);
	EXPECT_EQ(cg_read_long(parent, file->peak), 6 * PAGE_SIZE);
	return KSFT_PASS;
}

/*
 * Accounting
 */

/*
 * With every driver: the whole buffer is charged when it is made, and uncharged
 * when its memory is gone. A mapping holds the memory, so it holds the charge.
 */
static int test_gpu_drivers(const char *root)
{
	char *group = new_group(root, "gpu_drivers");
	struct actor actor = new_actor(group);
	int i;

	for (i = 0; i < nr_cards; i++) {
		ksft_print_msg("with %s\n", cards[i].driver);
		EXPECT_EQ(tell_open(actor, &cards[i]), 0);
		EXPECT_EQ(usage(group), 0);
		EXPECT_EQ(tell(actor, OP_CREATE, 256), 0);
		EXPECT_EQ(usage(group), MB(1L));
		EXPECT_EQ(tell(actor, OP_MAP, 256), 0);
		EXPECT_EQ(tell(actor, OP_CLOSE, 0), 0);
		usleep(100000);
		EXPECT_EQ(usage(group), MB(1L));
		EXPECT_EQ(tell(actor, OP_UNMAP, 0), 0);
		EXPECT_EQ(usage_after(group, 0), 0);

		EXPECT_EQ(set_max(group, MB(1L)), 0);
		EXPECT_EQ(tell(actor, OP_FILL, 64), 4);
		EXPECT_EQ(usage(group), MB(1L));
		EXPECT_EQ(tell(actor, OP_DROP, 0), 0);
		EXPECT_EQ(usage_after(group, 0), 0);
		EXPECT_EQ(set(group, file->max, "max"), 0);
	}
	return KSFT_PASS;
}

/* Sizes that user space makes up are refused or charged; no count goes wrong. */
static int test_gpu_made_up_sizes(const char *root)
{
	static const uint32_t sizes[][2] = {
		{ 1, UINT_MAX }, { 0x0fffffff, 0x0fffffff },
		{ 0x3fffffff, UINT_MAX }, { 0x1fffffff, UINT_MAX },
		{ 0x3fffffff, 0x7fffffff }, { 0x10000, 0x1000000 },
	};
	char *group = new_group(root, "gpu_sizes");
	uint32_t handle;
	int i, j, fd;

	EXPECT_EQ(cg_enter_current(group), 0);
	for (i = 0; i < nr_cards; i++) {
		fd = open(cards[i].path, O_RDWR | O_CLOEXEC);
		for (j = 0; j < ARRAY_SIZE(sizes); j++) {
			dumb_create(fd, sizes[j][0], sizes[j][1], &handle);
			EXPECT(usage(group) >= 0);
		}
		close(fd);
		EXPECT_EQ(usage_after(group, 0), 0);
	}
	EXPECT_EQ(cg_enter_current(root), 0);
	return KSFT_PASS;
}

/*
 * A parent's limit holds for its children together, and asking in vain for what
 * can never fit does not take room from a sibling, not even for a moment.
 */
static int test_gpu_hierarchy(const char *root)
{
	char *parent = new_group(root, "gpu_tree");
	char *left = new_group(parent, "left");
	char *right = new_group(parent, "right");
	struct order huge = { .op = OP_HUGE, .arg = 3000 };
	struct actor a = new_actor(left), b = new_actor(right);
	long ret;

	EXPECT_EQ(tell_open(a, &cards[0]), 0);
	EXPECT_EQ(tell_open(b, &cards[0]), 0);
	EXPECT_EQ(set_max(parent, MB(8L)), 0);
	EXPECT_EQ(tell(a, OP_FILL, 256), 8);
	EXPECT_EQ(usage(left), MB(8L));
	EXPECT_EQ(usage(parent), MB(8L));
	EXPECT_EQ(tell(b, OP_CREATE, 1), -ENOMEM);
	EXPECT_EQ(usage(right), 0);
	EXPECT_EQ(tell(a, OP_CLOSE, 0), 0);
	EXPECT_EQ(usage_after(parent, MB(7L)), MB(7L));
	EXPECT_EQ(tell(b, OP_CREATE, 256), 0);
	EXPECT_EQ(usage(right), MB(1L));
	EXPECT_EQ(tell(b, OP_CLOSE, 0), 0);
	EXPECT_EQ(tell(a, OP_CLOSE_ALL, 0), 0);
	EXPECT_EQ(usage_after(parent, 0), 0);

	EXPECT_EQ(send_fd(a.sock, &huge, sizeof(huge), -1), 0);
	EXPECT_EQ(tell(b, OP_CHURN, 3000), 0);
	EXPECT_EQ(recv(a.sock, &ret, sizeof(ret), 0), sizeof(ret));
	EXPECT_EQ(ret, 0);
	EXPECT_EQ(usage_after(parent, 0), 0);
	return KSFT_PASS;
}

/*
 * Also when several ask at once: they get what fits, no more and no less, and
 * usage is not above the limit for a moment.
 */
static int test_gpu_contention(const char *root)
{
	char *parent = new_group(root, "gpu_contention"), name[16];
	struct order fill = { .op = OP_FILL, .arg = 1 };
	struct actor asking[4];
	long ret, got;
	int i, turn;

	for (i = 0; i < ARRAY_SIZE(asking); i++) {
		sprintf(name, "child%d", i);
		asking[i] = new_actor(new_group(parent, name));
		EXPECT_EQ(tell_open(asking[i], &cards[0]), 0);
	}
	EXPECT_EQ(set_max(parent, 999 * PAGE_SIZE), 0);
	for (turn = 0; turn < 5; turn++) {
		for (i = 0; i < ARRAY_SIZE(asking); i++)
			EXPECT_EQ(send_fd(asking[i].sock, &fill, sizeof(fill),
					  -1), 0);
		for (i = 0, got = 0; i < ARRAY_SIZE(asking); i++, got += ret)
			EXPECT_EQ(recv(asking[i].sock, &ret, sizeof(ret), 0),
				  sizeof(ret));
		EXPECT_EQ(got, 999);
		EXPECT_EQ(usage(parent), 999 * PAGE_SIZE);
		EXPECT_EQ(cg_read_long(parent, file->peak), 999 * PAGE_SIZE);
		for (i = 0; i < ARRAY_SIZE(asking); i++)
			EXPECT_EQ(tell(asking[i], OP_CLOSE_ALL, 0), 0);
		EXPECT_EQ(usage_after(parent, 0), 0);
	}
	return KSFT_PASS;
}

/*
 * A new limit holds when its write has returned. Four fill up what is there while
 * the limit is lowered: usage ends at no more than the limit, or than there was
 * when the write had returned.
 */
static int test_gpu_live_limit(const char *root)
{
	char *parent = new_group(root, "gpu_live"), name[16];
	struct order fill = { .op = OP_FILL, .arg = 1 };
	long ret, seen, limit, above = 0;
	struct actor asking[4];
	int i, turn;

	for (i = 0; i < ARRAY_SIZE(asking); i++) {
		sprintf(name, "child%d", i);
		asking[i] = new_actor(new_group(parent, name));
		EXPECT_EQ(tell_open(asking[i], &cards[0]), 0);
	}
	for (turn = 0; turn < 50; turn++) {
		EXPECT_EQ(set_max(parent, 3000 * PAGE_SIZE), 0);
		for (i = 0; i < ARRAY_SIZE(asking); i++)
			EXPECT_EQ(send_fd(asking[i].sock, &fill, sizeof(fill),
					  -1), 0);
		/* To be somewhere in the middle, on a machine of any speed. */
		limit = (1 + rand() % 1000) * PAGE_SIZE;
		while (usage(parent) < limit - rand() % 64 * PAGE_SIZE)
			;
		EXPECT_EQ(set_max(parent, limit), 0);
		seen = usage(parent);
		above += seen > limit;
		for (i = 0; i < ARRAY_SIZE(asking); i++) {
			EXPECT_EQ(recv(asking[i].sock, &ret, sizeof(ret), 0),
				  sizeof(ret));
			EXPECT(ret >= 0);
		}
		EXPECT(usage(parent) <= (seen > limit ? seen : limit));
		for (i = 0; i < ARRAY_SIZE(asking); i++)
			EXPECT_EQ(tell(asking[i], OP_CLOSE_ALL, 0), 0);
		EXPECT_EQ(usage_after(parent, 0), 0);
	}
	ksft_print_msg("%ld of %d limits came below usage\n", above, turn);
	return KSFT_PASS;
}

/*
 * What is above a limit by far leaves no trace, in no cgroup, however many ask for
 * it at once and whatever else goes on: peak shows what was in use, and nobody else
 * is refused for it.
 */
static int test_gpu_refused_leaves_nothing(const char *root)
{
	char *top = new_group(root, "gpu_refused");
	char *parent = new_group(top, "parent"), *child[4], name[16];
	struct order huge = { .op = OP_HUGE, .arg = 2000 };
	struct actor asking[4];
	long ret;
	int i;

	for (i = 0; i < ARRAY_SIZE(asking); i++) {
		sprintf(name, "child%d", i);
		child[i] = new_group(parent, name);
		asking[i] = new_actor(child[i]);
		EXPECT_EQ(tell_open(asking[i], &cards[0]), 0);
	}
	EXPECT_EQ(set_max(top, MB(8L)), 0);
	for (i = 1; i < ARRAY_SIZE(asking); i++)
		EXPECT_EQ(send_fd(asking[i].sock, &huge, sizeof(huge), -1), 0);
	EXPECT_EQ(tell(asking[0], OP_CHURN, 2000), 0);
	for (i = 1; i < ARRAY_SIZE(asking); i++) {
		EXPECT_EQ(recv(asking[i].sock, &ret, sizeof(ret), 0),
			  sizeof(ret));
		EXPECT_EQ(ret, 0);
		EXPECT_EQ(cg_read_long(child[i], file->peak), 0);
	}
	EXPECT_EQ(usage_after(top, 0), 0);
	EXPECT(cg_read_long(child[0], file->peak) < MB(1L));
	EXPECT(cg_read_long(parent, file->peak) < MB(1L));
	EXPECT(cg_read_long(top, file->peak) < MB(1L));
	EXPECT_EQ(failures(top), 3 * 2000);
	return KSFT_PASS;
}

/*
 * A shared buffer is charged once, to its creator: not to who imports it, be it
 * the same device or another, and not less when the creator is dead, as long as
 * anyone holds it. Importing works at any limit.
 */
static int test_gpu_prime(const char *root)
{
	char *maker = new_group(root, "gpu_maker");
	char *taker = new_group(root, "gpu_taker");
	struct actor a, b, c;
	int from, to, dmabuf, pairs = 0;

	EXPECT_EQ(set_max(taker, 0), 0);
	for (from = 0; from < nr_cards; from++) {
		for (to = 0; to < nr_cards; to++) {
			if (!cards[from].prime || !cards[to].prime)
				continue;
			a = new_actor(maker);
			b = new_actor(taker);
			EXPECT_EQ(tell_open(a, &cards[from]), 0);
			EXPECT_EQ(tell_open(b, &cards[to]), 0);
			EXPECT_EQ(tell(a, OP_CREATE, 256), 0);
			dmabuf = tell_export(a);
			EXPECT(dmabuf >= 0);
			if (tell_import(b, dmabuf)) {
				/* Not every pair of devices can share. */
				EXPECT(from != to);
				ksft_print_msg("%s cannot import from %s\n",
					       cards[to].driver,
					       cards[from].driver);
				goto next;
			}
			pairs++;
			EXPECT_EQ(usage(maker), MB(1L));
			EXPECT_EQ(usage(taker), 0);

			/* The maker's own file has this object already. */
			EXPECT_EQ(tell_import(a, dmabuf), 0);
			EXPECT_EQ(usage(maker), MB(1L));

			end_actor(a, SIGKILL);
			usleep(100000);
			EXPECT_EQ(usage(maker), MB(1L));
			EXPECT_EQ(tell(b, OP_CLOSE_ALL, 0), 0);
			usleep(100000);
			EXPECT_EQ(usage(maker), MB(1L));

			/* Back to the device it came from, without handles. */
			c = new_actor(taker);
			EXPECT_EQ(tell_open(c, &cards[from]), 0);
			EXPECT_EQ(tell_import(c, dmabuf), 0);
			close(dmabuf);
			dmabuf = -1;
			usleep(100000);
			EXPECT_EQ(usage(maker), MB(1L));
			EXPECT_EQ(usage(taker), 0);
			end_actor(c, 0);
next:
			close(dmabuf);
			end_actor(b, 0);
			clean_actors();
			EXPECT_EQ(usage_after(maker, 0), 0);
			EXPECT_EQ(usage_after(taker, 0), 0);
		}
	}
	return pairs ? KSFT_PASS : KSFT_SKIP;
}

/*
 * The creator is who makes the buffer, not who opened the card: a child in
 * another cgroup is charged on its parent's file, and stays charged after its
 * death until the buffer is closed.
 */
static int test_gpu_fork(const char *root)
{
	char *parent = new_group(root, "gpu_fork");
	char *child = new_group(root, "gpu_fork_child");
	int status, fd = open(cards[0].path, O_RDWR | O_CLOEXEC);
	uint32_t handle;
	pid_t pid;

	EXPECT_EQ(cg_enter_current(parent), 0);
	EXPECT_EQ(buffer_create(fd, 2, &handle), 0);
	pid = fork();
	if (!pid) {
		if (cg_enter_current(child))
			_exit(1);
		_exit(buffer_create(fd, 3, &handle) ? 2 : 0);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	EXPECT_EQ(usage(parent), 2 * PAGE_SIZE);
	EXPECT_EQ(usage(child), 3 * PAGE_SIZE);
	close(fd);
	EXPECT_EQ(usage_after(parent, 0), 0);
	EXPECT_EQ(usage_after(child, 0), 0);
	EXPECT_EQ(cg_enter_current(root), 0);
	return KSFT_PASS;
}

/* Through exec a card that stays open keeps its buffers; one that closes not. */
static int test_gpu_exec(const char *root)
{
	char *group = new_group(root, "gpu_exec");
	struct order order = { .op = OP_EXEC };
	struct actor actor;
	int keep;

	for (keep = 0; keep < 2; keep++) {
		actor = new_actor(group);
		EXPECT_EQ(tell_open(actor, &cards[0]), 0);
		EXPECT_EQ(tell(actor, OP_CREATE, 2), 0);
		EXPECT_EQ(usage(group), 2 * PAGE_SIZE);
		order.arg = keep;
		/* There is no reply: the socket closes. */
		EXPECT_EQ(tell_with(actor, &order, -1, NULL), -EPIPE);
		usleep(100000);
		EXPECT_EQ(usage_after(group, keep * 2 * PAGE_SIZE),
			  keep * 2 * PAGE_SIZE);
		end_actor(actor, SIGKILL);
		EXPECT_EQ(usage_after(group, 0), 0);
	}
	return KSFT_PASS;
}

/* However a process ends, in the middle of whatever, nothing stays charged. */
static int test_gpu_killed(const char *root)
{
	char *group = new_group(root, "gpu_killed");
	struct order churn = { .op = OP_CHURN, .arg = LONG_MAX };
	struct order fill = { .op = OP_FILL, .arg = 1 };
	struct actor actor;
	int i;

	for (i = 0; i < 40; i++) {
		actor = new_actor(group);
		EXPECT_EQ(tell_open(actor, &cards[i % nr_cards]), 0);
		EXPECT_EQ(send_fd(actor.sock, i & 1 ? &churn : &fill,
				  sizeof(churn), -1), 0);
		usleep(rand() % 10000);
		end_actor(actor, SIGKILL);
		clean_actors();
		EXPECT_EQ(usage_after(group, 0), 0);
	}
	return KSFT_PASS;
}

/*
 * A cgroup with buffers can be removed. They stay charged to its ancestors until
 * they are gone; a new cgroup of the same name starts at 0.
 */
static int test_gpu_rmdir(const char *root)
{
	char *parent = new_group(root, "gpu_rmdir");
	char *child = new_group(parent, "child");
	struct actor actor = new_actor(child);

	EXPECT_EQ(tell_open(actor, &cards[0]), 0);
	EXPECT_EQ(tell(actor, OP_CREATE, 256), 0);
	EXPECT_EQ(cg_enter(root, actor.pid), 0);
	EXPECT_EQ(rmdir(child), 0);
	EXPECT_EQ(usage(parent), MB(1L));
	EXPECT_EQ(cg_create(child), 0);
	EXPECT_EQ(usage(child), 0);
	EXPECT_EQ(set_max(parent, MB(1L)), 0);
	EXPECT_EQ(cg_enter(child, actor.pid), 0);
	EXPECT_EQ(tell(actor, OP_CREATE, 1), -ENOMEM);
	EXPECT_EQ(tell(actor, OP_CLOSE_ALL, 0), 0);
	EXPECT_EQ(usage_after(parent, 0), 0);
	EXPECT_EQ(tell(actor, OP_CREATE, 1), 0);
	EXPECT_EQ(usage(child), PAGE_SIZE);
	return KSFT_PASS;
}

/* How many cgroups the hierarchy of gpu has, removed ones included. */
static long count_hierarchy(void)
{
	char line[256];
	long count = -1;
	FILE *f = fopen("/proc/cgroups", "r");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "gpu %*d %ld", &count) == 1)
			break;
	if (f)
		fclose(f);
	return count;
}

static long count_cgroups(const char *group)
{
	return v1 ? count_hierarchy() :
		    cg_read_key_long(group, "cgroup.stat",
				     "nr_dying_descendants ");
}

/*
 * Cgroups go a while after rmdir, but a v1 hierarchy goes at umount(2) or not at
 * all: let it have its root only.
 */
static void wait_for_removal(void)
{
	int i;

	for (i = 0; i < 250 && count_hierarchy() > 1; i++)
		usleep(20000);
}

/*
 * What is left behind in a removed cgroup, a buffer or a file with its scheduler
 * entity, does not keep the cgroup: as many as anybody likes to make leave none.
 */
static int test_gpu_no_zombies(const char *root)
{
	char *parent = new_group(root, "gpu_zombies");
	char *out = new_group(parent, "out");
	char *child = cg_name(parent, "child");
	struct card *card = test_card() ?: &cards[0];
	struct actor buffers, files[8];
	long before, now;
	int i, turn;

	groups[nr_groups++] = child;
	buffers = new_actor(out);
	EXPECT_EQ(tell_open(buffers, card), 0);
	for (i = 0; i < ARRAY_SIZE(files); i++)
		files[i] = new_actor(out);
	before = count_cgroups(parent);
	EXPECT(before >= 0);

	for (turn = 0; turn < 200; turn++) {
		EXPECT_EQ(cg_create(child), 0);
		EXPECT_EQ(cg_enter(child, buffers.pid), 0);
		EXPECT_EQ(tell(buffers, OP_CREATE, 1), 0);
		EXPECT_EQ(cg_enter(out, buffers.pid), 0);
		if (turn < ARRAY_SIZE(files)) {
			EXPECT_EQ(cg_enter(child, files[turn].pid), 0);
			EXPECT_EQ(tell_open(files[turn], card), 0);
			EXPECT_EQ(tell(files[turn], OP_CREATE, 1), 0);
			EXPECT_EQ(cg_enter(out, files[turn].pid), 0);
		}
		EXPECT_EQ(rmdir(child), 0);
	}
	now = turn * PAGE_SIZE + ARRAY_SIZE(files) * PAGE_SIZE;
	EXPECT_EQ(usage(parent), now);
	EXPECT_EQ(usage(out), 0);

	for (i = 0; i < 500 && count_cgroups(parent) > before; i++)
		usleep(20000);
	/* On v1 it had those that earlier tests removed. */
	EXPECT(count_cgroups(parent) >= 0 && count_cgroups(parent) <= before);

	/* And yet all of it counts, and is returned. */
	EXPECT_EQ(usage(parent), now);
	EXPECT_EQ(set_max(parent, now), 0);
	EXPECT_EQ(tell(buffers, OP_CREATE, 1), -ENOMEM);
	EXPECT_EQ(tell(buffers, OP_CLOSE, 0), 0);
	EXPECT_EQ(usage_after(parent, now - PAGE_SIZE), now - PAGE_SIZE);
	EXPECT_EQ(tell(buffers, OP_CREATE, 1), 0);
	EXPECT_EQ(usage(out), PAGE_SIZE);
	EXPECT_EQ(tell(buffers, OP_CLOSE_ALL, 0), 0);
	for (i = 0; i < ARRAY_SIZE(files); i++)
		EXPECT_EQ(tell(files[i], OP_DROP, 0), 0);
	EXPECT_EQ(usage_after(parent, 0), 0);
	return KSFT_PASS;
}

/* Removal of what had been there is finished by workers: try for a while. */
static int try_mount(const char *type, const char *at, const char *options)
{
	int i;

	for (i = 0; i < 250; i++) {
		if (!mount("none", at, type, 0, options))
			return 0;
		if (errno != EBUSY)
			break;
		usleep(20000);
	}
	return -errno;
}

/* A group below a hierarchy just mounted works, and the root has the old usage. */
static int check_moved(const char *root, bool to_v1, long wanted)
{
	const struct interface *old = file;
	char *group = cg_name(root, "gpu_moved");
	struct actor actor;
	int ret = KSFT_FAIL;

	file = to_v1 ? &v1_files : &v2_files;
	if (!to_v1 && set(root, "cgroup.subtree_control", "+gpu"))
		goto out;
	if (usage(root) != wanted || mkdir(group, 0755))
		goto out;
	actor = new_actor(group);
	if (!set_max(group, PAGE_SIZE) && !tell_open(actor, &cards[0]) &&
	    tell(actor, OP_FILL, 1) == 1 && usage(group) == PAGE_SIZE &&
	    usage(root) == wanted + PAGE_SIZE &&
	    !tell(actor, OP_CLOSE_ALL, 0) && usage_after(group, 0) == 0)
		ret = KSFT_PASS;
	end_actor(actor, 0);
	nr_actors--;
	if (cg_destroy(group))
		ret = KSFT_FAIL;
	if (to_v1)
		wait_for_removal();
	/* To be moved on it must not be in use. */
	if (!to_v1 && set(root, "cgroup.subtree_control", "-gpu"))
		ret = KSFT_FAIL;
out:
	file = old;
	free(group);
	return ret;
}

/* The same for what v2 has when a v1 hierarchy is gone. */
static bool has_gpu(const char *root)
{
	int i;

	for (i = 0; i < 250; i++) {
		if (!cg_read_strstr(root, "cgroup.controllers", "gpu"))
			return true;
		usleep(20000);
	}
	return false;
}

static bool has_groups(const char *root)
{
	DIR *dir = opendir(root);
	struct dirent *entry;
	bool found = false;

	while (dir && (entry = readdir(dir)))
		found |= entry->d_type == DT_DIR && entry->d_name[0] != '.';
	if (dir)
		closedir(dir);
	return found;
}

/*
 * Nor does what is left behind keep the hierarchy: the controller goes to the other
 * version of cgroups and back, and its root goes on counting. Only where nobody else
 * has cgroups: a machine of its own.
 */
static int test_gpu_hierarchy_moves(const char *root)
{
	char *child, other[] = "/tmp/gpu_moves.XXXXXX";
	struct card *card = test_card() ?: &cards[0];
	struct actor actor;
	bool moved;
	long had;
	int ret;

	if (has_groups(root))
		return KSFT_SKIP;
	EXPECT(mkdtemp(other));

	child = new_group(root, "gpu_moves");
	had = usage(root);
	actor = new_actor(child);
	EXPECT_EQ(tell_open(actor, card), 0);
	EXPECT_EQ(tell(actor, OP_CREATE, 256), 0);
	EXPECT_EQ(cg_enter(root, actor.pid), 0);
	EXPECT_EQ(cg_destroy(child), 0);
	nr_groups--;
	free(child);

	if (v1) {
		wait_for_removal();
		EXPECT_EQ(umount(root), 0);
		ret = try_mount("cgroup2", other, NULL);
		EXPECT_EQ(ret, 0);
		moved = has_gpu(other);
		if (moved)
			ret = check_moved(other, false, had + MB(1L));
		EXPECT_EQ(umount(other), 0);
		EXPECT_EQ(try_mount("cgroup", root, "gpu"), 0);
		EXPECT(moved);
		EXPECT_EQ(ret, KSFT_PASS);
	} else {
		EXPECT_EQ(set(root, "cgroup.subtree_control", "-gpu"), 0);
		ret = try_mount("cgroup", other, "gpu,misc");
		EXPECT_EQ(ret, 0);
		ret = check_moved(other, true, had + MB(1L));
		EXPECT_EQ(umount(other), 0);
		EXPECT(has_gpu(root));
		EXPECT_EQ(ret, KSFT_PASS);
	}
	rmdir(other);
	EXPECT_EQ(usage(root), had + MB(1L));
	EXPECT_EQ(tell(actor, OP_CLOSE_ALL, 0), 0);
	EXPECT_EQ(usage_after(root, had), had);
	return KSFT_PASS;
}

/* A process that moves leaves its charges behind and is charged anew there. */
static int test_gpu_migrate(const char *root)
{
	char *old = new_group(root, "gpu_old");
	char *new = new_group(root, "gpu_new");
	struct actor actor = new_actor(old);

	EXPECT_EQ(tell_open(actor, &cards[0]), 0);
	EXPECT_EQ(tell(actor, OP_CREATE, 2), 0);
	EXPECT_EQ(set_max(new, PAGE_SIZE), 0);
	EXPECT_EQ(cg_enter(new, actor.pid), 0);
	EXPECT_EQ(usage(old), 2 * PAGE_SIZE);
	EXPECT_EQ(usage(new), 0);
	EXPECT_EQ(tell(actor, OP_FILL, 1), 1);
	EXPECT_EQ(usage(old), 2 * PAGE_SIZE);
	EXPECT_EQ(usage(new), PAGE_SIZE);
	EXPECT_EQ(tell(actor, OP_CLOSE_ALL, 0), 0);
	EXPECT_EQ(usage_after(old, 0), 0);
	EXPECT_EQ(usage_after(new, 0), 0);
	return KSFT_PASS;
}

/*
 * Coexistence
 */

/*
 * The controller can be taken from children that have buffers; the parent goes
 * on counting them. Given back, it starts at 0 without a limit.
 */
static int test_gpu_subtree_control(const char *root)
{
	char *parent, *child, buf[64];
	struct actor actor;

	if (v1)
		return KSFT_SKIP;

	parent = new_group(root, "gpu_subtree");
	child = new_group(parent, "child");
	actor = new_actor(child);
	EXPECT_EQ(tell_open(actor, &cards[0]), 0);
	EXPECT_EQ(set_max(child, MB(2L)), 0);
	EXPECT_EQ(tell(actor, OP_CREATE, 256), 0);
	EXPECT_EQ(set(parent, "cgroup.subtree_control", "-gpu"), 0);
	EXPECT_EQ(cg_read(child, file->current, buf, sizeof(buf)), -ENOENT);
	EXPECT_EQ(usage(parent), MB(1L));
	EXPECT_EQ(tell(actor, OP_CREATE, 256), 0);
	EXPECT_EQ(usage(parent), MB(2L));
	EXPECT_EQ(set(parent, "cgroup.subtree_control", "+gpu"), 0);
	EXPECT_EQ(usage(child), 0);
	EXPECT_EQ(cg_read_strcmp(child, file->max, "max\n"), 0);
	EXPECT_EQ(tell(actor, OP_CLOSE_ALL, 0), 0);
	EXPECT_EQ(usage_after(parent, 0), 0);
	EXPECT_EQ(usage(child), 0);
	return KSFT_PASS;
}

/*
 * Not for threaded cgroups: it cannot be enabled there. What their threads
 * create is charged to the domain above.
 */
static int test_gpu_threaded(const char *root)
{
	char *domain, *threaded, buf[64];
	int fd, ret;
	uint32_t handle;

	if (v1)
		return KSFT_SKIP;

	domain = new_group(root, "gpu_domain");
	threaded = cg_name(domain, "threaded");
	EXPECT_EQ(cg_create(threaded), 0);
	groups[nr_groups++] = threaded;
	EXPECT_EQ(set(threaded, "cgroup.type", "threaded"), 0);
	EXPECT(set(domain, "cgroup.subtree_control", "+gpu") < 0);
	EXPECT_EQ(cg_read(threaded, file->max, buf, sizeof(buf)), -ENOENT);

	EXPECT_EQ(cg_enter_current(domain), 0);
	EXPECT_EQ(cg_enter_current_thread(threaded), 0);
	fd = open(cards[0].path, O_RDWR | O_CLOEXEC);
	ret = buffer_create(fd, 2, &handle);
	EXPECT_EQ(cg_enter_current(root), 0);
	EXPECT_EQ(ret, 0);
	EXPECT_EQ(usage(domain), 2 * PAGE_SIZE);
	close(fd);
	EXPECT_EQ(usage_after(domain, 0), 0);
	return KSFT_PASS;
}

static int give_to(const char *group, const char *name, uid_t uid)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", group, name);
	return chown(path, uid, uid);
}

/*
 * Delegated to a user: may make cgroups and set their limits, but not touch the
 * delegated cgroup's own, and whatever is set below, the limit above holds. The
 * same from a user namespace of one's own.
 */
static int test_gpu_delegation(const char *root)
{
	char *group = new_group(root, "gpu_delegated"), *inner;
	struct order make = { .op = OP_MKDIR };
	struct actor actor;
	int userns;

	EXPECT_EQ(set_max(group, 2 * PAGE_SIZE), 0);
	EXPECT_EQ(give_to(group, ".", NOBODY), 0);
	EXPECT_EQ(give_to(group, "cgroup.procs", NOBODY), 0);
	if (!v1)
		EXPECT_EQ(give_to(group, "cgroup.subtree_control", NOBODY), 0);

	for (userns = 0; userns < 2; userns++) {
		actor = new_actor(group);
		/* Opening a card is up to the device file: not our subject. */
		EXPECT_EQ(tell_open(actor, &cards[0]), 0);
		EXPECT_EQ(tell(actor, OP_SETUID, NOBODY), 0);
		if (userns)
			EXPECT_EQ(tell(actor, OP_UNSHARE,
				       CLONE_NEWUSER | CLONE_NEWCGROUP), 0);

		EXPECT(tell_write(actor, group, file->max, "max") < 0);
		EXPECT(tell_write(actor, group, "gpu.priority", "1") < 0);
		inner = cg_name(group, userns ? "userns" : "user");
		groups[nr_groups++] = inner;
		strcpy(make.text, inner);
		EXPECT_EQ(tell_with(actor, &make, -1, NULL), 0);
		EXPECT_EQ(tell_write(actor, inner, "cgroup.procs", "0"), 0);
		if (!v1)
			EXPECT_EQ(tell_write(actor, group,
					     "cgroup.subtree_control", "+gpu"),
				  0);
		EXPECT_EQ(tell_write(actor, inner, file->max, "max"), 0);
		EXPECT_EQ(tell_write(actor, inner, file->max, "1g"), 0);
		EXPECT_EQ(tell(actor, OP_FILL, 1), 2);
		EXPECT_EQ(usage(inner), 2 * PAGE_SIZE);
		EXPECT_EQ(usage(group), 2 * PAGE_SIZE);
		EXPECT_EQ(failures(group), userns + 1);
		end_actor(actor, 0);
		clean_actors();
		EXPECT_EQ(usage_after(group, 0), 0);
		if (!v1)
			EXPECT_EQ(set(group, "cgroup.subtree_control", "-gpu"),
				  0);
	}
	return KSFT_PASS;
}

/*
 * With the mount option nsdelegate a cgroup namespace's root is a border: inside,
 * even the owner of its limit cannot write to it.
 */
static int test_gpu_nsdelegate(const char *root)
{
	struct actor actor;
	char *group;

	if (v1 || proc_mount_contains("nsdelegate") <= 0)
		return KSFT_SKIP;

	group = new_group(root, "gpu_nsdelegate");
	EXPECT_EQ(set_max(group, PAGE_SIZE), 0);
	actor = new_actor(group);
	EXPECT_EQ(tell(actor, OP_UNSHARE, CLONE_NEWCGROUP), 0);
	EXPECT_EQ(tell_write(actor, group, file->max, "max"), -EPERM);
	EXPECT_EQ(tell_write(actor, group, "gpu.priority", "5"), -EPERM);
	EXPECT_EQ(cg_read_long(group, file->max), PAGE_SIZE);
	return KSFT_PASS;
}

static long tell_place(struct actor actor, long asked)
{
	return tell(actor, OP_PLACE, asked);
}

/*
 * In an order of all, as i915 has one, whoever was given a cgroup does not rise above
 * it, not by writing to a child and not by what a context asks: neither a user
 * without the capability, nor root in a cgroup namespace, nor by a file that such a
 * one has opened. An administrator decides for each cgroup.
 */
static int test_gpu_order(const char *root)
{
	struct card *card = test_card();
	struct order make = { .op = OP_MKDIR };
	char *parent, *child, path[PATH_MAX], text[] = "900";
	struct actor actor, user;
	int fd, way;
	long asked;

	if (!card)
		return KSFT_SKIP;

	parent = new_group(root, "gpu_order");
	child = new_group(parent, "child");
	actor = new_actor(child);
	EXPECT_EQ(tell_open(actor, card), 0);
	if (tell_place(actor, 0) == NO_PLACE)
		return KSFT_SKIP;

	/* Nothing is written: contexts are where they ask to be. */
	for (asked = -1023; asked <= 1023; asked += 341)
		EXPECT_EQ(tell_place(actor, asked), asked);

	/* By an administrator. */
	EXPECT_EQ(set(child, "gpu.priority", "300"), 0);
	EXPECT_EQ(tell_place(actor, 0), 300);
	EXPECT_EQ(tell_place(actor, 500), 300);
	EXPECT_EQ(tell_place(actor, -100), 200);
	EXPECT_EQ(set(parent, "gpu.priority", "100"), 0);
	EXPECT_EQ(tell_place(actor, 0), 100);
	EXPECT_EQ(set(parent, "gpu.priority", "0"), 0);
	EXPECT_EQ(tell_place(actor, 0), 0);
	EXPECT_EQ(tell_place(actor, 1), 0);
	EXPECT_EQ(set(child, "gpu.priority", "-1024"), 0);
	EXPECT_EQ(tell_place(actor, 0), -1023);
	clean_actors();

	/* By others, each in a tree of its own: below cgroups that nobody wrote. */
	for (way = 0; way < 4; way++) {
		char name[32];

		sprintf(name, "gpu_order%d", way);
		parent = new_group(root, name);
		EXPECT_EQ(give_to(parent, ".", NOBODY), 0);
		EXPECT_EQ(give_to(parent, "cgroup.procs", NOBODY), 0);
		if (!v1) {
			EXPECT_EQ(set(parent, "cgroup.subtree_control", "+gpu"),
				  0);
			EXPECT_EQ(give_to(parent, "cgroup.subtree_control",
					  NOBODY), 0);
		}
		child = cg_name(parent, "child");
		groups[nr_groups++] = child;
		snprintf(make.text, sizeof(make.text), "%s", child);
		user = new_actor(root);
		EXPECT_EQ(tell_with(user, &make, -1, NULL), 0);
		if (way != 1)
			EXPECT_EQ(give_to(child, "gpu.priority", NOBODY), 0);
		EXPECT_EQ(cg_enter(child, user.pid), 0);
		EXPECT_EQ(tell_open(user, card), 0);
		switch (way) {
		case 0:
			EXPECT_EQ(tell(user, OP_SETUID, NOBODY), 0);
			EXPECT_EQ(tell_write(user, child, "gpu.priority", text),
				  0);
			break;
		case 1:
			/* Inside the child's parent, so that it is no border. */
			EXPECT_EQ(cg_enter(v1 ? parent : root, user.pid), 0);
			EXPECT_EQ(tell(user, OP_UNSHARE, CLONE_NEWCGROUP), 0);
			EXPECT_EQ(cg_enter(child, user.pid), 0);
			EXPECT_EQ(tell_write(user, child, "gpu.priority", text),
				  0);
			break;
		case 2:
			snprintf(path, sizeof(path), "%s/gpu.priority", child);
			/* Opened by a user, written by us: with setuid programs. */
			EXPECT_EQ(seteuid(NOBODY), 0);
			fd = open(path, O_WRONLY | O_CLOEXEC);
			EXPECT_EQ(seteuid(0), 0);
			EXPECT(fd >= 0);
			EXPECT_EQ(write(fd, text, strlen(text)), strlen(text));
			close(fd);
			break;
		case 3:
			/* Every capability there is, in a namespace of their own. */
			EXPECT_EQ(tell(user, OP_SETUID, NOBODY), 0);
			EXPECT_EQ(tell(user, OP_UNSHARE, CLONE_NEWUSER), 0);
			EXPECT_EQ(tell_write(user, child, "gpu.priority", text),
				  0);
			break;
		}
		EXPECT_EQ(cg_read_long(child, "gpu.priority"), 900);
		EXPECT_EQ(tell_place(user, 0), 0);
		EXPECT_EQ(tell_place(user, 1000), 0);

		/* What the administrator gave is theirs, and no more. */
		EXPECT_EQ(set(parent, "gpu.priority", "200"), 0);
		EXPECT_EQ(tell_place(user, 0), 200);
		/* And it may be given away. */
		EXPECT_EQ(set(child, "gpu.priority", "-50"), 0);
		EXPECT_EQ(tell_place(user, 0), -50);
		clean_actors();
	}
	return KSFT_PASS;
}

/*
 * Random operations
 */

#define NR_WORKERS	8
#define NR_NESTED	4
#define NR_KEPT		32

enum random_op {
	R_CREATE, R_CLOSE, R_EXPORT, R_IMPORT, R_MAP, R_UNMAP, R_MIGRATE,
	R_LIMIT, R_REOPEN, R_HUGE, R_FORK, R_RMDIR, R_EXIT, NR_RANDOM_OPS,
};

static const struct {
	const char *name;
	int weight;
} random_ops[NR_RANDOM_OPS] = {
	[R_CREATE]	= { "create", 30 },
	[R_CLOSE]	= { "close", 20 },
	[R_EXPORT]	= { "export", 10 },
	[R_IMPORT]	= { "import", 10 },
	[R_MAP]		= { "map", 8 },
	[R_UNMAP]	= { "unmap", 6 },
	[R_MIGRATE]	= { "migrate", 5 },
	[R_LIMIT]	= { "limit", 4 },
	[R_REOPEN]	= { "reopen", 2 },
	[R_HUGE]	= { "huge", 2 },
	[R_FORK]	= { "fork", 1 },
	[R_RMDIR]	= { "rmdir", 1 },
	[R_EXIT]	= { "exit", 1 },
};

/* Shared by the workers, so that the count goes on when one of them dies. */
struct tally {
	long left;
	long done[NR_RANDOM_OPS], failed[NR_RANDOM_OPS];
};

struct worker {
	struct tally *tally;
	char **nested, **homes;
	int sock;	/* dma-bufs in flight */
	int id;
	int fds[MAX_CARDS];
	struct {
		uint32_t handle;
		int card;
		uint32_t pages;
	} kept[NR_KEPT];
	int nr_kept;
	struct {
		void *address;
		size_t size;
	} maps[NR_KEPT];
	int nr_maps;
};

static int random_op(struct worker *w, enum random_op op)
{
	int card = rand() % nr_cards, i, fd, ret;
	uint32_t handle, pages;
	char name[32], byte = 0, *path;
	pid_t pid;

	i = w->nr_kept ? rand() % w->nr_kept : -1;
	switch (op) {
	case R_CREATE:
	case R_IMPORT:
		if (w->nr_kept == NR_KEPT)
			return -ENOSPC;
		pages = 1 + rand() % 32;
		if (op == R_CREATE) {
			ret = buffer_create(w->fds[card], pages, &handle);
		} else {
			ret = recv_fd(w->sock, &byte, 1, &fd);
			if (ret)
				return ret;
			ret = buffer_import(w->fds[card], fd, &handle);
			close(fd);
			pages = 0;
		}
		if (ret)
			return ret;
		w->kept[w->nr_kept].handle = handle;
		w->kept[w->nr_kept].card = card;
		w->kept[w->nr_kept++].pages = pages;
		return 0;
	case R_CLOSE:
		if (i < 0)
			return -ENOENT;
		/* An import of one's own is the same handle, closed before. */
		ret = buffer_close(w->fds[w->kept[i].card], w->kept[i].handle);
		w->kept[i] = w->kept[--w->nr_kept];
		return ret;
	case R_EXPORT:
		if (i < 0)
			return -ENOENT;
		fd = buffer_export(w->fds[w->kept[i].card], w->kept[i].handle);
		if (fd < 0)
			return fd;
		ret = send_fd(w->sock, &byte, 1, fd);
		close(fd);
		return ret;
	case R_MAP:
		if (i < 0 || !w->kept[i].pages || w->nr_maps == NR_KEPT)
			return -ENOENT;
		w->maps[w->nr_maps].address =
			buffer_map(w->fds[w->kept[i].card], w->kept[i].handle,
				   w->kept[i].pages);
		if (!w->maps[w->nr_maps].address)
			return -errno;
		w->maps[w->nr_maps++].size = w->kept[i].pages * PAGE_SIZE;
		return 0;
	case R_UNMAP:
		if (!w->nr_maps)
			return -ENOENT;
		w->nr_maps--;
		return munmap(w->maps[w->nr_maps].address,
			      w->maps[w->nr_maps].size);
	case R_MIGRATE:
		return cg_enter_current(w->homes[rand() % NR_NESTED]);
	case R_LIMIT:
		path = w->nested[rand() % NR_NESTED];
		if (rand() % 3)
			return set(path, file->max, "max");
		return set_max(path, rand() % 1024 * PAGE_SIZE);
	case R_REOPEN:
		/* Drops every handle of this card; mappings stay. */
		close(w->fds[card]);
		w->fds[card] = open(cards[card].path, O_RDWR | O_CLOEXEC);
		for (i = 0; i < w->nr_kept; i++)
			if (w->kept[i].card == card)
				w->kept[i--] = w->kept[--w->nr_kept];
		return w->fds[card] < 0 ? -errno : 0;
	case R_HUGE:
		return dumb_create(w->fds[card], 0x10000, 0x1000000, &handle);
	case R_FORK:
		pid = fork();
		if (!pid) {
			buffer_create(w->fds[card], 2, &handle);
			/* Half of them die in the middle of the next one. */
			for (i = 0; i < 100; i++)
				if (!buffer_create(w->fds[card], 1, &handle))
					buffer_close(w->fds[card], handle);
			_exit(0);
		}
		if (pid < 0)
			return -errno;
		if (rand() % 2) {
			usleep(rand() % 2000);
			kill(pid, SIGKILL);
		}
		return waitpid(pid, NULL, 0) == pid ? 0 : -errno;
	case R_RMDIR:
		/* A leaf that goes away with a buffer in it. */
		sprintf(name, "leaf%d", w->id);
		path = cg_name(w->nested[0], name);
		if (!mkdir(path, 0755)) {
			if (!cg_enter_current(path) &&
			    !buffer_create(w->fds[card], 1, &handle) &&
			    rand() % 2)
				buffer_close(w->fds[card], handle);
			cg_enter_current(w->homes[rand() % NR_NESTED]);
		}
		ret = rmdir(path) ? -errno : 0;
		free(path);
		return ret;
	case R_EXIT:
		_exit(0);
	default:
		return -EINVAL;
	}
}

static void worker_main(struct worker *w)
{
	int i, n, total = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	srand(seed + getpid());
	for (i = 0; i < NR_RANDOM_OPS; i++)
		total += random_ops[i].weight;
	for (i = 0; i < nr_cards; i++)
		w->fds[i] = open(cards[i].path, O_RDWR | O_CLOEXEC);
	cg_enter_current(w->homes[w->id % NR_NESTED]);
	while (__atomic_sub_fetch(&w->tally->left, 1, __ATOMIC_RELAXED) >= 0) {
		n = rand() % total;
		for (i = 0; n >= random_ops[i].weight; i++)
			n -= random_ops[i].weight;
		__atomic_add_fetch(&w->tally->done[i], 1, __ATOMIC_RELAXED);
		if (random_op(w, i))
			__atomic_add_fetch(&w->tally->failed[i], 1,
					   __ATOMIC_RELAXED);
	}
	_exit(0);
}

/* Returns a KSFT_ result. */
static int random_run(const char *root, long operations)
{
	struct worker w = {};
	char *nested[NR_NESTED], *homes[NR_NESTED], name[32];
	pid_t pids[NR_WORKERS];
	int pair[2], i, alive, kills = 0;
	long now;

	nested[NR_NESTED - 1] = new_group(root, "gpu_random");
	for (i = NR_NESTED - 2; i >= 0; i--)
		nested[i] = new_group(nested[i + 1], "nested");
	/* v2 wants processes in leaves only, so each level has one for them. */
	for (i = 0; i < NR_NESTED; i++)
		homes[i] = new_group(nested[i], "home");
	/* What a killed worker may leave behind; registered for removal. */
	for (i = 0; i < NR_WORKERS; i++) {
		sprintf(name, "leaf%d", i);
		groups[nr_groups++] = cg_name(nested[0], name);
	}

	w.nested = nested;
	w.homes = homes;
	w.tally = mmap(NULL, sizeof(*w.tally), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	EXPECT(w.tally != MAP_FAILED);
	w.tally->left = operations;
	EXPECT_EQ(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
			     pair), 0);

	fflush(stdout);
	memset(pids, 0, sizeof(pids));
	do {
		alive = 0;
		for (i = 0; i < NR_WORKERS; i++) {
			if (pids[i] && !waitpid(pids[i], NULL, WNOHANG)) {
				alive++;
				continue;
			}
			pids[i] = 0;
			if (w.tally->left <= 0)
				continue;
			w.id = i;
			w.sock = pair[i & 1];
			pids[i] = fork();
			if (!pids[i])
				worker_main(&w);
			alive++;
		}
		usleep(10000);
		if (rand() % 4 == 0) {
			i = rand() % NR_WORKERS;
			if (pids[i] && !kill(pids[i], SIGKILL))
				kills++;
		}
		for (i = 0; i < NR_NESTED; i++) {
			now = usage(nested[i]);
			if (now < 0 || now > MB(1024L)) {
				w.tally->left = 0;
				ksft_print_msg("usage of %s is %ld\n",
					       nested[i], now);
				break;
			}
		}
	} while (alive);
	close(pair[0]);
	close(pair[1]);

	for (i = 0; i < NR_RANDOM_OPS; i++)
		ksft_print_msg("%s: %ld, of them %ld failed\n",
			       random_ops[i].name, w.tally->done[i],
			       w.tally->failed[i]);
	ksft_print_msg("seed %u, %d workers killed\n", seed, kills);
	munmap(w.tally, sizeof(*w.tally));
	for (i = 0; i < NR_NESTED; i++)
		EXPECT_EQ(usage_after(nested[i], 0), 0);
	return KSFT_PASS;
}

/*
 * Eight processes in four nested cgroups create, share, map and close buffers,
 * move, set limits, fork, exit and are killed: usage ends at 0 everywhere.
 */
static int test_gpu_random(const char *root)
{
	return random_run(root, stress_operations);
}

/*
 * Buffers of the kernel's own, and the order of charge and allocation. For these
 * the card's driver matters, see cards[].
 */

/*
 * A buffer for which there is no room among the mmap offsets of a device (1 TiB)
 * never was, so that peak does not show it.
 */
static int test_gpu_peak_no_offset(const char *root)
{
	struct card *card = find_card("vgem");
	long size = 2048 * MB(1L), made = 0;
	uint32_t handle;
	char *group;
	int fd, ret;

	if (!card)
		return KSFT_SKIP;

	group = new_group(root, "gpu_peak_no_offset");
	EXPECT_EQ(cg_enter_current(group), 0);
	fd = open(card->path, O_RDWR | O_CLOEXEC);
	while (!(ret = dumb_create(fd, 0x8000, 0x4000, &handle)) && made < 1024)
		made++;
	EXPECT_EQ(ret, -ENOSPC);
	EXPECT(made > 100);
	EXPECT_EQ(usage(group), made * size);
	EXPECT_EQ(cg_read_long(group, file->peak), made * size);
	EXPECT_EQ(failures(group), 0);
	close(fd);
	EXPECT_EQ(usage_after(group, 0), 0);
	return KSFT_PASS;
}

/* Returns a handle for any framebuffer of the card, or -errno. */
static int any_framebuffer(int fd, uint32_t *handle)
{
	struct drm_mode_fb_cmd arg;
	int ret = -ENOENT;
	uint32_t id;

	for (id = 1; id < 256; id++) {
		memset(&arg, 0, sizeof(arg));
		arg.fb_id = id;
		if (!ioctl(fd, DRM_IOCTL_MODE_GETFB, &arg)) {
			*handle = arg.handle;
			return arg.handle ? 0 : -EACCES;
		}
		if (errno != ENOENT)
			ret = -errno;
	}
	return ret;
}

static int rebind(const char *driver, const char *device)
{
	static const char * const files[] = { "unbind", "bind" };
	char path[PATH_MAX + 16];
	int i, fd, ret = 0;

	for (i = 0; i < ARRAY_SIZE(files) && !ret; i++) {
		snprintf(path, sizeof(path), "%s/%s", driver, files[i]);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd < 0)
			return -errno;
		if (write(fd, device, strlen(device)) < 0)
			ret = -errno;
		close(fd);
	}
	return ret;
}

/*
 * What the kernel makes for itself, here while a driver binds to a device with a
 * display, is charged to nobody and refused to nobody, whoever's system call it
 * is. It stays so when somebody gets a handle for it. With bochs alone: qxl of
 * 6.1 leaves its interrupt handler behind.
 */
static int test_gpu_kernel_buffers(const char *root)
{
	struct card *card = find_card("bochs-drm");
	char device[PATH_MAX], driver[PATH_MAX], *group;
	char path[64];
	uint32_t handle;
	int fd, ret;

	if (!card)
		return KSFT_SKIP;

	fd = open(card->path, O_RDWR | O_CLOEXEC);
	ret = any_framebuffer(fd, &handle);
	close(fd);
	if (ret == -ENOENT)
		return KSFT_SKIP;	/* no fbdev emulation */
	EXPECT_EQ(ret, 0);
	snprintf(path, sizeof(path), "/sys/class/drm/card%d/device",
		 atoi(card->path + strlen("/dev/dri/card")));
	EXPECT(realpath(path, device));
	strcat(path, "/driver");
	EXPECT(realpath(path, driver));

	group = new_group(root, "gpu_kernel_buffers");
	EXPECT_EQ(set_max(group, 0), 0);
	EXPECT_EQ(cg_enter_current(group), 0);
	EXPECT_EQ(rebind(driver, strrchr(device, '/') + 1), 0);
	EXPECT_EQ(failures(group), 0);
	EXPECT_EQ(cg_read_long(group, file->peak), 0);
	fd = open(card->path, O_RDWR | O_CLOEXEC);
	EXPECT(fd >= 0);
	EXPECT_EQ(any_framebuffer(fd, &handle), 0);
	EXPECT_EQ(usage(group), 0);
	close(fd);
	EXPECT_EQ(usage(group), 0);
	return KSFT_PASS;
}

static const struct drm_mode_modeinfo modes[] = {
	{
		.clock = 25175, .hdisplay = 640, .hsync_start = 656,
		.hsync_end = 752, .htotal = 800, .vdisplay = 480,
		.vsync_start = 490, .vsync_end = 492, .vtotal = 525,
		.vrefresh = 60, .name = "640x480",
	}, {
		.clock = 40000, .hdisplay = 800, .hsync_start = 840,
		.hsync_end = 968, .htotal = 1056, .vdisplay = 600,
		.vsync_start = 601, .vsync_end = 605, .vtotal = 628,
		.vrefresh = 60, .name = "800x600",
	},
};

/* A dumb buffer and a framebuffer of it in modes[index]; returns 0 or -errno. */
static int framebuffer_create(int fd, int index, uint32_t *id)
{
	struct drm_mode_fb_cmd arg = {
		.width = modes[index].hdisplay,
		.height = modes[index].vdisplay,
		.pitch = modes[index].hdisplay * 4,
		.bpp = 32, .depth = 24,
	};
	int ret = dumb_create(fd, arg.width, arg.height, &arg.handle);

	if (ret)
		return ret;
	if (ioctl(fd, DRM_IOCTL_MODE_ADDFB, &arg))
		return -errno;
	*id = arg.fb_id;
	return 0;
}

/* Shows a framebuffer in modes[mode] on the head; returns 0 or -errno. */
static int show(int fd, int head, int mode, uint32_t fb)
{
	uint32_t crtcs[8], connectors[8], encoders[8], fbs[8];
	struct drm_mode_card_res res = {
		.fb_id_ptr = (uintptr_t)fbs, .count_fbs = 8,
		.crtc_id_ptr = (uintptr_t)crtcs, .count_crtcs = 8,
		.connector_id_ptr = (uintptr_t)connectors,
		.count_connectors = 8,
		.encoder_id_ptr = (uintptr_t)encoders, .count_encoders = 8,
	};
	struct drm_mode_crtc crtc = {
		.set_connectors_ptr = (uintptr_t)&connectors[head],
		.count_connectors = 1, .fb_id = fb, .mode_valid = 1,
	};

	if (ioctl(fd, DRM_IOCTL_MODE_GETRESOURCES, &res))
		return -errno;
	if (head >= res.count_crtcs || head >= res.count_connectors)
		return -ENXIO;
	crtc.crtc_id = crtcs[head];
	crtc.mode = modes[mode];
	return ioctl(fd, DRM_IOCTL_MODE_SETCRTC, &crtc) ? -errno : 0;
}

/*
 * qxl shows a dumb buffer by way of one of its own that all heads share, so it
 * grows with the second head. Nobody pays for that one, and it is made at
 * anybody's limit.
 */
static int test_gpu_qxl_shadow(const char *root)
{
	struct card *card = find_card("qxl");
	uint32_t small, large;
	char *group;
	long paid;
	int fd;

	if (!card)
		return KSFT_SKIP;

	group = new_group(root, "gpu_qxl_shadow");
	EXPECT_EQ(cg_enter_current(group), 0);
	fd = open(card->path, O_RDWR | O_CLOEXEC);
	EXPECT_EQ(framebuffer_create(fd, 0, &small), 0);
	EXPECT_EQ(framebuffer_create(fd, 1, &large), 0);
	paid = usage(group);
	EXPECT_EQ(paid, (300 + 469) * PAGE_SIZE);
	EXPECT_EQ(show(fd, 0, 0, small), 0);
	EXPECT_EQ(usage(group), paid);
	EXPECT_EQ(set_max(group, paid), 0);
	EXPECT_EQ(show(fd, 1, 1, large), 0);
	EXPECT_EQ(show(fd, 0, 0, small), 0);
	EXPECT_EQ(usage(group), paid);
	EXPECT_EQ(failures(group), 0);
	close(fd);
	EXPECT_EQ(usage_after(group, 0), 0);
	return KSFT_PASS;
}

/* In video memory at once, not only when it is shown. Returns 0 or -errno. */
static int vram_create(const struct card *card, int fd, uint32_t pages)
{
	struct drm_qxl_alloc arg = { .size = pages * PAGE_SIZE };
	uint32_t handle;

	if (strcmp(card->driver, "qxl"))
		return buffer_create(fd, pages, &handle);
	return ioctl(fd, DRM_IOCTL_QXL_ALLOC, &arg) ? -errno : 0;
}

static int read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), n;

	if (fd < 0)
		return -errno;
	n = read(fd, text, size - 1);
	close(fd);
	text[n < 0 ? 0 : n] = '\0';
	return n < 0 ? -errno : 0;
}

/*
 * A refused buffer pushes nothing out of video memory: with TTM the charge comes
 * before a place is looked for.
 */
static int test_gpu_refused_evicts_nothing(const char *root)
{
	static const struct {
		const char *driver, *vram;
	} drivers[] = {
		{ "qxl", "qxl_mem_mm" }, { "vmwgfx", "vram_ttm" },
	};
	char *owner = new_group(root, "gpu_owner");
	char *group = new_group(root, "gpu_refused");
	static char before[64 * KB], after[64 * KB];
	int i, j, fd, other, tested = 0;
	char path[PATH_MAX];

	EXPECT_EQ(set_max(group, 16 * PAGE_SIZE), 0);
	for (i = 0; i < ARRAY_SIZE(drivers); i++) {
		struct card *card = find_card(drivers[i].driver);

		if (!card)
			continue;
		snprintf(path, sizeof(path), "/sys/kernel/debug/dri/%d/%s",
			 atoi(card->path + strlen("/dev/dri/card")),
			 drivers[i].vram);
		if (read_text(path, before, sizeof(before)))
			continue;
		ksft_print_msg("with %s\n", drivers[i].driver);
		tested++;

		EXPECT_EQ(cg_enter_current(owner), 0);
		fd = open(card->path, O_RDWR | O_CLOEXEC);
		other = open(card->path, O_RDWR | O_CLOEXEC);
		/*
		 * More than QEMU's cards have, so that it is full. qxl cannot
		 * always push out its own.
		 */
		for (j = 0; j < 100; j++)
			if (vram_create(card, fd, 256))
				break;
		EXPECT(j > 10);
		EXPECT_EQ(read_text(path, before, sizeof(before)), 0);
		EXPECT_EQ(cg_enter_current(group), 0);
		EXPECT_EQ(vram_create(card, other, 2048), -ENOMEM);
		EXPECT_EQ(read_text(path, after, sizeof(after)), 0);
		EXPECT(!strcmp(before, after));
		EXPECT_EQ(usage(group), 0);
		EXPECT_EQ(failures(group), 1);
		close(fd);
		close(other);
		EXPECT_EQ(usage_after(owner, 0), 0);
		EXPECT_EQ(cg_enter_current(root), 0);
	}
	return tested ? KSFT_PASS : KSFT_SKIP;
}

/*
 * Fault injection, with -f
 */

#define DEBUGFS		"/sys/kernel/debug/"

static int put(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY), ret;

	if (fd < 0)
		return -errno;
	ret = write(fd, value, strlen(value)) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

/*
 * Let the nth place that can fail in this thread's next system calls fail. The
 * file stays open: while a fault is pending, opening it would be what fails.
 */
static int fail_nth_fd = -1;

static void fail_nth(int n)
{
	char value[16];
	int len = sprintf(value, "%d", n);

	if (fail_nth_fd < 0)
		fail_nth_fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	if (pwrite(fail_nth_fd, value, len, 0) != len)
		ksft_exit_fail_msg("fail-nth: %s\n", strerror(errno));
}

/* Whether the fault set by fail_nth() has happened; takes it back if not. */
static bool failed_nth(void)
{
	char value[16] = "";
	bool failed;

	if (pread(fail_nth_fd, value, sizeof(value) - 1, 0) <= 0)
		ksft_exit_fail_msg("fail-nth: %s\n", strerror(errno));
	failed = atoi(value) == 0;
	fail_nth(0);
	return failed;
}

/*
 * Every allocation on the way of a charge fails once: creating and importing a
 * buffer and creating a cgroup. Usage is what it was, whether that went through
 * to user space or not.
 */
static int test_gpu_failslab(const char *root)
{
	char *group, *child;
	int n, fd, card, dmabuf, ret, failures = 0;
	uint32_t handle, import;

	if (put(DEBUGFS "failslab/ignore-gfp-wait", "N") ||
	    put(DEBUGFS "failslab/verbose", "0"))
		return KSFT_SKIP;

	group = new_group(root, "gpu_failslab");
	child = cg_name(group, "child");
	groups[nr_groups++] = child;
	EXPECT_EQ(cg_enter_current(group), 0);
	for (card = 0; card < nr_cards; card++) {
		ksft_print_msg("with %s\n", cards[card].driver);
		fd = open(cards[card].path, O_RDWR | O_CLOEXEC);
		for (n = 1; ; n++) {
			fail_nth(n);
			ret = buffer_create(fd, 1, &handle);
			if (!failed_nth())
				break;
			failures++;
			if (!ret)
				EXPECT_EQ(buffer_close(fd, handle), 0);
			EXPECT_EQ(usage_after(group, 0), 0);
		}
		EXPECT_EQ(ret, 0);
		for (n = 1; cards[card].prime; n++) {
			dmabuf = buffer_export(fd, handle);
			EXPECT(dmabuf >= 0);
			EXPECT_EQ(buffer_close(fd, handle), 0);
			fail_nth(n);
			ret = buffer_import(fd, dmabuf, &import);
			if (failed_nth())
				failures++;
			else
				n = 0;
			EXPECT_EQ(usage(group), PAGE_SIZE);
			if (!ret)
				EXPECT_EQ(buffer_close(fd, import), 0);
			close(dmabuf);
			EXPECT_EQ(usage_after(group, 0), 0);
			if (!n)
				break;
			EXPECT_EQ(buffer_create(fd, 1, &handle), 0);
		}
		close(fd);
		EXPECT_EQ(usage_after(group, 0), 0);
	}
	EXPECT_EQ(cg_enter_current(root), 0);
	if (!v1)
		EXPECT_EQ(set(group, "cgroup.subtree_control", "+gpu"), 0);
	for (n = 1; ; n++) {
		fail_nth(n);
		ret = mkdir(child, 0755);
		if (!failed_nth())
			break;
		failures++;
		if (!ret)
			EXPECT_EQ(rmdir(child), 0);
	}
	EXPECT_EQ(ret, 0);
	ksft_print_msg("%d allocations failed\n", failures);
	EXPECT(failures > 10);
	return KSFT_PASS;
}

/*
 * With the charge itself failing now and then, for whatever reason, drivers
 * give up cleanly and usage ends at 0.
 */
static int test_gpu_fail_charge(const char *root)
{
	char *group;
	struct actor actor;
	int ret, i;

	if (put(DEBUGFS "fail_function/inject", "gpu_cgroup_try_charge_task"))
		return KSFT_SKIP;

	EXPECT_EQ(put(DEBUGFS "fail_function/gpu_cgroup_try_charge_task/retval",
		      "0xfffffffffffffff4"), 0);	/* -ENOMEM */
	put(DEBUGFS "fail_function/verbose", "0");
	put(DEBUGFS "fail_function/interval", "1");
	put(DEBUGFS "fail_function/times", "-1");
	put(DEBUGFS "fail_function/probability", "100");

	group = new_group(root, "gpu_fail_charge");
	actor = new_actor(group);
	for (i = 0; i < nr_cards; i++) {
		EXPECT_EQ(tell_open(actor, &cards[i]), 0);
		EXPECT_EQ(tell(actor, OP_CREATE, 1), -ENOMEM);
		EXPECT_EQ(usage(group), 0);
	}
	put(DEBUGFS "fail_function/probability", "30");
	ret = random_run(root, stress_operations);
	put(DEBUGFS "fail_function/inject", "");
	return ret;
}

/*
 * Scheduling, on the software engine
 */

/* As in drivers/gpu/drm/cgroup_test/cgroup_test.h */
struct engine_job {
	uint32_t run_us;
	uint32_t depth;
};

#define ENGINE_SUBMIT	DRM_IOW(DRM_COMMAND_BASE + 0, struct engine_job)
#define SUBMIT_US	"/sys/module/cgroup_test/parameters/submit_us"
#define DEPEND_US	"/sys/module/cgroup_test/parameters/depend_us"

static int engine_open(void)
{
	int card;

	for (card = 0; card < nr_cards; card++)
		if (!strcmp(cards[card].driver, "cgroup_test"))
			return open(cards[card].path, O_RDWR | O_CLOEXEC);
	return -1;
}

/* First waits until fewer than @depth jobs of this file are unfinished. */
static int engine_submit_depth(int fd, uint32_t run_us, uint32_t depth)
{
	struct engine_job job = { .run_us = run_us, .depth = depth };

	return ioctl(fd, ENGINE_SUBMIT, &job) ? -errno : 0;
}

static int engine_submit(int fd, uint32_t run_us)
{
	return engine_submit_depth(fd, run_us, 1024);
}

static long now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/*
 * A file is closed while its last job is no longer queued and not yet submitted:
 * that takes as long as the scheduler works with what belongs to the file. If it
 * does not, KASAN has more to say.
 */
static int test_gpu_close_in_submit(const char *root)
{
	int i, fd, waited = 0;
	long began;

	if (put(SUBMIT_US, "100000"))
		return KSFT_SKIP;
	for (i = 0; i < 10; i++) {
		fd = engine_open();
		EXPECT(fd >= 0);
		EXPECT_EQ(engine_submit(fd, 10), 0);
		usleep(50000);
		began = now_us();
		close(fd);
		waited += now_us() - began > 20000;
	}
	/* And with no certain order. */
	EXPECT_EQ(put(SUBMIT_US, "100"), 0);
	for (i = 0; i < 200; i++) {
		fd = engine_open();
		EXPECT(fd >= 0);
		EXPECT_EQ(engine_submit(fd, 10), 0);
		usleep(i);
		close(fd);
	}
	EXPECT_EQ(put(SUBMIT_US, "0"), 0);
	ksft_print_msg("%d of 10 waited\n", waited);
	EXPECT(waited > 5);
	return KSFT_PASS;
}

/*
 * Every job waits for a fence, and none is lost when that signals; also with many
 * files in several cgroups, and when they are closed meanwhile.
 */
static int test_gpu_dependencies(const char *root)
{
	int i, j, fd[10], rounds = 30;
	char *group[3];

	if (put(DEPEND_US, "300"))
		return KSFT_SKIP;
	/* A lost one is waited for without end. */
	alarm(300);
	group[0] = new_group(root, "gpu_dependencies");
	group[1] = new_group(group[0], "a");
	group[2] = new_group(group[0], "b");
	for (i = 0; i < ARRAY_SIZE(fd); i++) {
		EXPECT_EQ(cg_enter_current(group[1 + i % 2]), 0);
		fd[i] = engine_open();
		EXPECT(fd[i] >= 0);
	}
	for (j = 0; j < rounds; j++)
		for (i = 0; i < ARRAY_SIZE(fd); i++)
			EXPECT_EQ(engine_submit_depth(fd[i], 10, 1 + i), 0);
	for (i = 0; i < ARRAY_SIZE(fd); i++)
		EXPECT_EQ(engine_submit_depth(fd[i], 10, 1), 0);
	for (j = 0; j < rounds; j++)
		for (i = 0; i < ARRAY_SIZE(fd); i++) {
			close(fd[i]);
			fd[i] = engine_open();
			EXPECT(fd[i] >= 0);
			EXPECT_EQ(engine_submit(fd[i], 10), 0);
			EXPECT_EQ(engine_submit(fd[i], 10), 0);
			usleep(20 * j);
		}
	for (i = 0; i < ARRAY_SIZE(fd); i++)
		close(fd[i]);
	alarm(0);
	EXPECT_EQ(put(DEPEND_US, "0"), 0);
	EXPECT_EQ(cg_enter_current(root), 0);
	return KSFT_PASS;
}

/*
 * Each allocation on the way of the first job of an entity in a nested cgroup
 * fails once. The job is refused, or it runs.
 */
static int test_gpu_failslab_job(const char *root)
{
	char *top, *group;
	int n, fd, ret, refused = 0;

	if (put(DEBUGFS "failslab/ignore-gfp-wait", "N") ||
	    put(DEBUGFS "failslab/verbose", "0"))
		return KSFT_SKIP;

	top = new_group(root, "gpu_failslab_job");
	group = new_group(top, "child");
	EXPECT_EQ(cg_enter_current(group), 0);
	for (n = 1; ; n++) {
		fd = engine_open();
		EXPECT(fd >= 0);
		fail_nth(n);
		ret = engine_submit(fd, 10);
		if (!failed_nth())
			break;
		if (ret) {
			EXPECT_EQ(ret, -ENOMEM);
			refused++;
		}
		EXPECT_EQ(engine_submit(fd, 10), 0);
		close(fd);
	}
	EXPECT_EQ(ret, 0);
	close(fd);
	EXPECT_EQ(cg_enter_current(root), 0);
	/* The job, its fence, the shares of two cgroups. */
	ksft_print_msg("%d jobs refused\n", refused);
	EXPECT(refused >= 4);
	return KSFT_PASS;
}

#define T(x) { x, #x, false }
#define F(x) { x, #x, true }
static const struct gpu_test {
	int (*fn)(const char *root);
	const char *name;
	bool faults;	/* only with -f */
} tests[] = {
	T(test_gpu_files),
	T(test_gpu_devices),
	T(test_gpu_devices_unbind),
	T(test_gpu_limit_values),
	T(test_gpu_priority_values),
	T(test_gpu_max),
	T(test_gpu_events),
	T(test_gpu_events_notify),
	T(test_gpu_peak),
	T(test_gpu_drivers),
	T(test_gpu_made_up_sizes),
	T(test_gpu_hierarchy),
	T(test_gpu_contention),
	T(test_gpu_live_limit),
	T(test_gpu_refused_leaves_nothing),
	T(test_gpu_prime),
	T(test_gpu_fork),
	T(test_gpu_exec),
	T(test_gpu_killed),
	T(test_gpu_rmdir),
	T(test_gpu_no_zombies),
	T(test_gpu_hierarchy_moves),
	T(test_gpu_migrate),
	T(test_gpu_subtree_control),
	T(test_gpu_threaded),
	T(test_gpu_delegation),
	T(test_gpu_nsdelegate),
	T(test_gpu_close_in_submit),
	T(test_gpu_peak_no_offset),
	T(test_gpu_kernel_buffers),
	T(test_gpu_qxl_shadow),
	T(test_gpu_refused_evicts_nothing),
	T(test_gpu_dependencies),
	T(test_gpu_order),
	T(test_gpu_random),
	F(test_gpu_failslab),
	F(test_gpu_failslab_job),
	F(test_gpu_fail_charge),
};
#undef T
#undef F

/* Where v1 has the controller, alone or with others */
static int find_v1_root(char *root, size_t len)
{
	char buf[10 * PAGE_SIZE], *line, *mount, *type, *options, *option;
	char *lines = buf;

	if (proc_read_text(0, false, "mounts", buf, sizeof(buf)) <= 0)
		return -1;

	while ((line = strsep(&lines, "\n"))) {
		strsep(&line, " ");
		mount = strsep(&line, " ");
		type = strsep(&line, " ");
		options = strsep(&line, " ");
		if (!options || strcmp(type, "cgroup"))
			continue;
		while ((option = strsep(&options, ",")))
			if (!strcmp(option, "gpu")) {
				snprintf(root, len, "%s", mount);
				return 0;
			}
	}
	return -1;
}

static void find_interface(char *root, size_t len)
{
	if (!cg_find_unified_root(root, len) &&
	    !cg_read_strstr(root, "cgroup.controllers", "gpu")) {
		file = &v2_files;
		if (cg_write(root, "cgroup.subtree_control", "+gpu"))
			ksft_exit_skip("Failed to set gpu controller\n");
		return;
	}
	if (find_v1_root(root, len))
		ksft_exit_skip("gpu controller isn't available\n");
	v1 = true;
	file = &v1_files;
}

static bool selected(const struct gpu_test *test, bool faults, char **names)
{
	if (!*names)
		return faults || !test->faults;
	for (; *names; names++)
		if (!strcmp(*names, test->name))
			return true;
	return false;
}

int main(int argc, char *argv[])
{
	char root[PATH_MAX];
	int i, opt, plan = 0, ret = EXIT_SUCCESS;
	bool faults = false;

	if (argc == 2 && !strcmp(argv[1], "--sleep")) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pause();
	}
	seed = time(NULL);
	while ((opt = getopt(argc, argv, "fn:s:")) != -1) {
		switch (opt) {
		case 'f':
			faults = true;
			break;
		case 'n':
			stress_operations = atol(optarg);
			break;
		case 's':
			seed = strtoul(optarg, NULL, 0);
			break;
		default:
			ksft_exit_fail_msg("usage: %s\n",
					   "test_gpu [-f] [-n OPERATIONS] [-s SEED] [TEST]...");
		}
	}
	argv += optind;
	srand(seed);

	ksft_print_header();
	find_cards();
	find_interface(root, sizeof(root));
	if (!nr_cards)
		ksft_exit_skip("no DRM driver with dumb buffers\n");

	for (i = 0; i < ARRAY_SIZE(tests); i++)
		plan += selected(&tests[i], faults, argv);
	if (!plan)
		ksft_exit_fail_msg("no such test\n");
	ksft_print_msg("cgroup %s, %s\n", v1 ? "v1" : "v2", root);
	ksft_set_plan(plan);

	for (i = 0; i < ARRAY_SIZE(tests); i++) {
		int result;

		if (!selected(&tests[i], faults, argv))
			continue;
		result = tests[i].fn(root);
		clean_up(root);
		switch (result) {
		case KSFT_PASS:
			ksft_test_result_pass("%s\n", tests[i].name);
			break;
		case KSFT_SKIP:
			ksft_test_result_skip("%s\n", tests[i].name);
			break;
		default:
			ret = EXIT_FAILURE;
			ksft_test_result_fail("%s\n", tests[i].name);
			break;
		}
		fflush(stdout);
	}

	ksft_print_cnts();
	return ret;
}
