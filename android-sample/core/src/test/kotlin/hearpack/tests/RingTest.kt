package hearpack.tests

import hearpack.core.audio.RingBuffer
import kotlin.random.Random
import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertTrue

class RingTest {
    @Test fun keepsOrderAndTakesNoMoreThanFits() {
        val ring = RingBuffer(4)
        assertEquals(4, ring.capacity)
        assertEquals(4, ring.write(FloatArray(6) { it.toFloat() }, 0, 6))
        val out = FloatArray(6)
        assertEquals(3, ring.read(out, 1, 3))
        assertEquals(listOf(0f, 0f, 1f, 2f, 0f, 0f), out.toList())
        assertEquals(2, ring.write(FloatArray(6) { 10f + it }, 4, 2))
        assertEquals(3, ring.available)
        assertEquals(3, ring.read(out, 0, 6))
        assertEquals(listOf(3f, 14f, 15f), out.take(3))
    }

    /** 10^8 samples through two real threads: each arrives once and in order. */
    @Test fun losesAndDoublesNothingBetweenTwoThreads() {
        val ring = RingBuffer(4096)
        val total = 100_000_000L
        val period = 1 shl 24 // whole numbers up to there are exact in Float
        val writer =
            Thread {
                val random = Random(1)
                val block = FloatArray(1024)
                var sent = 0L
                while (sent < total) {
                    val n = minOf(random.nextInt(1, 1024).toLong(), total - sent).toInt()
                    for (i in 0 until n) block[i] = ((sent + i) % period).toFloat()
                    var done = 0
                    while (done < n) {
                        val taken = ring.write(block, done, n - done)
                        if (taken == 0) Thread.yield()
                        done += taken
                    }
                    sent += n
                }
            }
        writer.start()
        val random = Random(2)
        val block = FloatArray(1024)
        var received = 0L
        var wrong = 0L
        while (received < total) {
            val n = ring.read(block, 0, random.nextInt(1, 1024))
            if (n == 0) Thread.yield()
            for (i in 0 until n) if (block[i] != ((received + i) % period).toFloat()) wrong++
            received += n
        }
        writer.join()
        assertEquals(0, wrong)
        assertEquals(total, received)
        assertTrue(ring.available == 0)
    }
}
