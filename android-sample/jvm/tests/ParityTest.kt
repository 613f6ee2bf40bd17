package hearpack.tests

import hearpack.core.stream.DecisionTracker
import hearpack.core.stream.GoldenStream
import hearpack.core.stream.SoundEvent
import org.json.JSONArray
import kotlin.math.abs
import kotlin.math.log10
import kotlin.test.Test
import kotlin.test.assertContentEquals
import kotlin.test.assertEquals
import kotlin.test.assertTrue

/** The core with real inference against Python's CompiledModel on the same artefact. */
class ParityTest {
    @Test fun dtlnAt16kHzInFixedBlocksIsPythonsBitForBit() = sameBits("dtln", 16000, 160)

    @Test fun dtlnAt16kHzInRaggedBlocksIsPythonsBitForBit() = sameBits("dtln", 16000, null)

    @Test fun yamnetAt16kHzInFixedBlocksIsPythonsBitForBit() = sameBits("yamnet", 16000, 480)

    @Test fun yamnetAt16kHzInRaggedBlocksIsPythonsBitForBit() = sameBits("yamnet", 16000, null)

    @Test fun dtlnAt48kHzIsWithin110Decibels() = assertTrue(snr("dtln", 192) >= 110.0)

    @Test fun dtlnAt48kHzInRaggedBlocksIsWithin110Decibels() = assertTrue(snr("dtln", null) >= 110.0)

    @Test fun yamnetAt48kHzIsWithin110Decibels() = assertTrue(snr("yamnet", 192) >= 110.0)

    /** Whatever else the catalogue holds: at each rate of its golden streams, in ragged blocks. */
    @Test fun everyOtherBundleIsPythonsBitForBit() {
        val names = Given.file("bundles").list()!!.sorted() - setOf("dtln", "yamnet")
        for (name in names) {
            val streams = GoldenStream.read(Given.bundle(name))
            assertTrue(streams.isNotEmpty())
            for (golden in streams) {
                val bundle = Given.bundle(name)
                val sizes = partition(golden.samples.size, null)
                val kotlin =
                    openEngine(bundle, Given.bundleFolder(name)).use {
                        Streamed(bundle, it, golden.sampleRateHz, golden.samples, sizes).flat
                    }
                val python = Given.floats("python/$name-${golden.sampleRateHz}.f32")
                assertContentEquals(python.map { it.toRawBits() }, kotlin.map { it.toRawBits() }, name)
            }
        }
    }

    @Test fun yamnetsEventsAreIdenticalAtBothRates() {
        for (rate in listOf(16000, 48000)) {
            val bundle = Given.bundle("yamnet")
            val streamed = stream("yamnet", rate, null)
            val events = mutableListOf<SoundEvent>()
            val geometry = bundle.manifest.geometry
            val tracker =
                DecisionTracker(bundle.manifest.decisions!!, bundle.labels, geometry.sampleRateHz, events::add)
            streamed.rows.forEachIndexed { i, scores -> tracker.push(scores, streamed.ends[i]) }
            tracker.flush(streamed.inSamples)
            val closed =
                events.filter { it.offsetSample != null }.sortedWith(
                    compareBy({ it.onsetSample }, { it.index }),
                )
            val expected = JSONArray(Given.file("python/yamnet-$rate-events.json").readText())
            assertTrue(expected.length() > 0)
            assertEquals(expected.length(), closed.size)
            closed.forEachIndexed { i, event ->
                val python = expected.getJSONObject(i)
                assertEquals(python.getString("label"), event.label)
                assertEquals(python.getLong("onset_sample"), event.onsetSample)
                assertEquals(python.getLong("offset_sample"), event.offsetSample)
                assertTrue(abs(python.getDouble("confidence") - event.confidence) <= 1e-6)
            }
        }
    }

    private fun stream(
        name: String,
        rate: Int,
        block: Int?,
    ): Streamed {
        val bundle = Given.bundle(name)
        val samples = Given.floats("bundles/$name/golden/${if (rate == 16000) "input" else "input-$rate"}.f32")
        return openEngine(bundle, Given.bundleFolder(name)).use {
            Streamed(bundle, it, rate, samples, partition(samples.size, block))
        }
    }

    private fun sameBits(
        name: String,
        rate: Int,
        block: Int?,
    ) {
        val python = Given.floats("python/$name-$rate.f32")
        val kotlin = stream(name, rate, block).flat
        assertTrue(python.isNotEmpty())
        assertContentEquals(python.map { it.toRawBits() }, kotlin.map { it.toRawBits() })
    }

    private fun snr(
        name: String,
        block: Int?,
    ): Double {
        val python = Given.floats("python/$name-48000.f32")
        val kotlin = stream(name, 48000, block).flat
        assertEquals(python.size, kotlin.size)
        val signal = python.sumOf { it.toDouble() * it }
        val error = python.indices.sumOf { (python[it].toDouble() - kotlin[it]).let { d -> d * d } }
        println("    $name at 48 kHz: ${if (error == 0.0) "equal bits" else "${10 * log10(signal / error)} dB"}")
        return if (error == 0.0) 200.0 else 10 * log10(signal / error)
    }
}
