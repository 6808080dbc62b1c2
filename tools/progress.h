/* One line on a terminal that says what takes so long. It appears after a second, only where stderr
 * is a terminal, and is erased at the end. */
#ifndef CUMEGA_TOOLS_PROGRESS_H
#define CUMEGA_TOOLS_PROGRESS_H

/* Without a terminal, or where no thread can be had, there is no line and nothing else changes. */
void progress_begin(void);
void progress_end(void);

/* What is being done now. */
void progress_set(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Erases the line and keeps it away while something else is printed on stderr. */
void progress_lock(void);
void progress_unlock(void);

#endif
