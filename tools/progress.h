/* A line on a terminal that says what the program is doing. It appears after a second, only if
 * stderr is a terminal, and is erased at the end. */
#ifndef CUMEGA_TOOLS_PROGRESS_H
#define CUMEGA_TOOLS_PROGRESS_H

/* Without a terminal, or if no thread can be started, there is no line and nothing else
 * changes. */
void progress_begin(void);
void progress_end(void);

/* Says what the program is doing now. */
void progress_set(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Erases the line, and stops it from being drawn while something else is printed on stderr. */
void progress_lock(void);
void progress_unlock(void);

#endif
