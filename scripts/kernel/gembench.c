// SPDX-License-Identifier: Apache-2.0
/*
 * What a buffer costs: create and close one of a page, over and over.
 *
 *   gembench THREADS LOOPS REPEATS
 *
 * Each thread has vgem's card open for itself, whose number depends on what else
 * the kernel has. Prints one line a repeat: the nanoseconds one create and close
 * took, on average over all threads.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>
#include <drm/drm.h>

static long loops;
static pthread_barrier_t start;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int open_vgem(void)
{
	char path[32], name[32];
	int i, fd;

	for (i = 0; i < 64; i++) {
		struct drm_version version = { .name = name, .name_len = sizeof(name) - 1 };

		memset(name, 0, sizeof(name));
		snprintf(path, sizeof(path), "/dev/dri/card%d", i);
		fd = open(path, O_RDWR);
		if (fd < 0)
			continue;
		if (!ioctl(fd, DRM_IOCTL_VERSION, &version) && !strcmp(name, "vgem"))
			return fd;
		close(fd);
	}
	fprintf(stderr, "no card of vgem\n");
	exit(1);
}

static void *run(void *arg)
{
	int fd = open_vgem();
	long i;

	(void)arg;
	pthread_barrier_wait(&start);
	for (i = 0; i < loops; i++) {
		struct drm_mode_create_dumb create = { .width = 1024, .height = 1, .bpp = 32 };
		struct drm_gem_close close = {};

		if (ioctl(fd, DRM_IOCTL_MODE_CREATE_DUMB, &create))
			die("create");
		close.handle = create.handle;
		if (ioctl(fd, DRM_IOCTL_GEM_CLOSE, &close))
			die("close");
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[64];
	struct timespec a, b;
	int n, i, repeats;

	if (argc != 4 || (n = atoi(argv[1])) < 1 || n > 64) {
		fprintf(stderr, "usage: gembench THREADS LOOPS REPEATS\n");
		return 2;
	}
	loops = atol(argv[2]);
	for (repeats = atoi(argv[3]); repeats > 0; repeats--) {
		pthread_barrier_init(&start, NULL, n + 1);
		for (i = 0; i < n; i++)
			if (pthread_create(&threads[i], NULL, run, NULL))
				die("pthread_create");
		clock_gettime(CLOCK_MONOTONIC, &a);
		pthread_barrier_wait(&start);
		for (i = 0; i < n; i++)
			pthread_join(threads[i], NULL);
		clock_gettime(CLOCK_MONOTONIC, &b);
		printf("%.0f\n", ((b.tv_sec - a.tv_sec) * 1e9 + (b.tv_nsec - a.tv_nsec)) / (loops * n));
	}
	return 0;
}
