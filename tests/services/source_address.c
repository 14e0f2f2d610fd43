/* Loaded before libc: what the process connects to sees it come from the address $SOURCE_ADDRESS.
 *
 * Every address of 127.0.0.0/8 is this machine's own, so hosts of the tests can have one each. Ceph
 * tells its clients apart by the address that its monitor sees. No header is included, so that any
 * compiler will do.
 */

struct address { unsigned short family, port; unsigned int host; char rest[8]; };

extern void *dlsym(void *, const char *);
extern char *getenv(const char *);
extern unsigned int inet_addr(const char *);
extern int bind(int, const struct address *, unsigned int);

int connect(int socket, const struct address *to, unsigned int length)
{
	static int (*next)(int, const struct address *, unsigned int);
	const char *source = getenv("SOURCE_ADDRESS");

	if (!next)
		next = (int (*)(int, const struct address *, unsigned int))dlsym((void *)-1L, "connect");
	if (source && to->family == 2) { /* AF_INET */
		struct address from = { 2, 0, inet_addr(source), { 0 } };
		bind(socket, &from, sizeof from);
	}
	return next(socket, to, length);
}
