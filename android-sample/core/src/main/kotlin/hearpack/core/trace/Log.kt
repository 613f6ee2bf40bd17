package hearpack.core.trace

/** What becomes of a column when two neighbouring rows are made one. */
internal enum class Join { FIRST, LAST, SUM, MAX, SAME }

private const val SUMMED = 4096

/**
 * Rows of numbers in fixed arrays that never end: the first and the last [exact] are kept as they were, those between are
 * summed, ever more to a row. One writer, no allocation; read when it rests.
 *
 * @param joins by column. Rows whose [Join.SAME] columns differ are not made one.
 */
internal class Log(
    private val exact: Int,
    private vararg val joins: Join,
) {
    private val head = Array(joins.size) { LongArray(exact) }
    private val tail = Array(joins.size) { LongArray(exact) }
    private val sums = Array(joins.size) { LongArray(SUMMED) }
    private val merged = IntArray(SUMMED) // rows in each
    private var sumCount = 0
    private var perSum = 64

    /** Rows that were added. */
    @Volatile var added = 0L
        private set

    /** Adds a row. */
    fun add(row: LongArray) {
        if (exact == 0) return
        val n = added
        if (n < exact) {
            store(head, n.toInt(), row)
        } else {
            val slot = (n % exact).toInt()
            if (n >= 2L * exact) evict(slot)
            store(tail, slot, row)
        }
        added = n + 1
    }

    /** Every row in order, summed ones among them; the array is the same each time. */
    fun each(body: (LongArray) -> Unit) {
        val row = LongArray(joins.size)

        fun give(
            from: Array<LongArray>,
            at: Int,
        ) {
            for (c in joins.indices) row[c] = from[c][at]
            body(row)
        }
        for (i in 0 until minOf(added, exact.toLong()).toInt()) give(head, i)
        for (i in 0 until sumCount) give(sums, i)
        for (n in maxOf(exact.toLong(), added - exact) until added) give(tail, (n % exact).toInt())
    }

    private fun store(
        into: Array<LongArray>,
        at: Int,
        row: LongArray,
    ) {
        for (c in joins.indices) into[c][at] = row[c]
    }

    private fun evict(slot: Int) {
        if (sumCount > 0 && merged[sumCount - 1] < perSum && join(sums, sumCount - 1, tail, slot)) {
            merged[sumCount - 1]++
            return
        }
        if (sumCount == SUMMED) halve()
        if (sumCount == SUMMED) return // thousands of changes of rate: the rest is left out
        for (c in joins.indices) sums[c][sumCount] = tail[c][slot]
        merged[sumCount++] = 1
    }

    private fun halve() {
        perSum *= 2
        var kept = 0
        for (i in 1 until sumCount) {
            if (merged[kept] + merged[i] <= perSum && join(sums, kept, sums, i)) {
                merged[kept] += merged[i]
            } else {
                kept++
                for (c in joins.indices) sums[c][kept] = sums[c][i]
                merged[kept] = merged[i]
            }
        }
        sumCount = kept + 1
    }

    private fun join(
        into: Array<LongArray>,
        at: Int,
        from: Array<LongArray>,
        next: Int,
    ): Boolean {
        for (c in joins.indices) if (joins[c] == Join.SAME && into[c][at] != from[c][next]) return false
        for (c in joins.indices) {
            val a = into[c][at]
            val b = from[c][next]
            into[c][at] =
                when (joins[c]) {
                    Join.FIRST, Join.SAME -> a
                    Join.LAST -> b
                    Join.SUM -> a + b
                    Join.MAX -> maxOf(a, b)
                }
        }
        return true
    }
}
