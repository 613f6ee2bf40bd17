package hearpack.tests

import hearpack.core.audio.FixedGain
import hearpack.core.audio.HighpassFilter
import hearpack.core.audio.InPlace
import hearpack.core.audio.PeakLimiter
import hearpack.core.audio.PlayoutRing
import hearpack.core.audio.Resampler
import hearpack.core.audio.Stage
import hearpack.core.audio.WetDryMix
import hearpack.core.audio.WindowGate
import hearpack.core.audio.energy
import hearpack.core.bundle.StreamException
import org.json.JSONArray
import org.json.JSONObject
import java.io.File
import kotlin.test.Test
import kotlin.test.assertContentEquals
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertTrue

private fun golden(name: String) = JSONObject(File(System.getProperty("fixtures"), "$name/golden.json").readText())

private fun JSONArray.floats() = FloatArray(length()) { getDouble(it).toFloat() }

private fun assertSameBits(
    expected: FloatArray,
    came: FloatArray,
    what: String,
) = assertContentEquals(expected.map { it.toRawBits() }, came.map { it.toRawBits() }, what)

/** Ports against the goldens that Python's own generators wrote: every bit. */
class GoldenTest {
    @Test fun resamplerGivesTheGoldenBitsForEveryPartition() {
        val data = golden("resampler")
        val source =
            FloatArray(data.getJSONArray("input").length()) { data.getJSONArray("input").getInt(it) / 33554432f }
        val cases = data.getJSONArray("cases")
        assertTrue(cases.length() >= 7)
        for (c in 0 until cases.length()) {
            val case = cases.getJSONObject(c)
            val name = "${case.getInt("in_rate_hz")} to ${case.getInt("out_rate_hz")}"
            val resampler = Resampler(case.getInt("in_rate_hz"), case.getInt("out_rate_hz"))
            assertEquals(case.getInt("delay_out_samples"), resampler.delayOutSamples, name)
            assertEquals(case.getInt("taps_per_output"), resampler.tapsPerOutput, name)
            val phases = case.getJSONObject("taps_by_phase")
            for (phase in phases.keys().asSequence().map { it.toString() }) {
                val taps = resampler.taps(phase.toInt())
                val expected = phases.getJSONArray(phase)
                assertEquals(
                    List(expected.length()) { expected.getInt(it) },
                    taps.map { it.toInt() },
                    "$name, phase $phase",
                )
            }
            for (seed in 0..3) {
                resampler.reset()
                val out = FloatArray(resampler.mostOutputs(source.size) + resampler.delayOutSamples)
                var n = 0
                var at = 0
                for (size in partition(source.size, if (seed == 0) source.size else null, seed)) {
                    n += resampler.process(source, at, size, out, n)
                    at += size
                }
                n += resampler.flush(out, n)
                assertSameBits(case.getJSONArray("outputs").floats(), out.copyOf(n), "$name, seed $seed")
            }
        }
    }

    @Test fun resamplerRefusesWhatIsNoNumberAndNamesItsPlace() {
        val resampler = Resampler(48000, 16000)
        resampler.process(FloatArray(10), 0, 10, FloatArray(20))
        val bad = FloatArray(8).also { it[5] = Float.NaN }
        val message = assertFailsWith<StreamException> { resampler.process(bad, 0, 8, FloatArray(20)) }.message!!
        assertTrue("sample 15" in message && "NaN" in message, message)
        assertEquals(10, resampler.inSamples)
        resampler.flush(FloatArray(100))
        assertFailsWith<StreamException> { resampler.process(bad, 0, 1, FloatArray(20)) }
        assertFailsWith<IllegalArgumentException> { Resampler(48000, 100) }
    }

    @Test fun plainDspGivesTheGoldenBits() {
        val data = golden("dsp")
        val rate = data.getInt("sample_rate_hz")
        val units = data.getJSONArray("input")
        val x = FloatArray(units.length()) { units.getInt(it) / 8388608f }
        val cases = data.getJSONArray("cases")
        val seen = mutableSetOf<String>()
        for (c in 0 until cases.length()) {
            val case = cases.getJSONObject(c)
            val stage = case.getJSONObject("stage")
            val kind = stage.getString("kind")
            seen += kind
            if (kind == "gate") gate(case, stage, x) else inPlace(case, stage, x, rate)
        }
        assertEquals(setOf("highpass", "gain", "gate", "wet_dry", "limiter"), seen)
    }

    private fun gate(
        case: JSONObject,
        stage: JSONObject,
        x: FloatArray,
    ) {
        val n = case.getInt("window_samples")
        val gate = WindowGate(Stage.Gate(stage.getDouble("threshold_dbfs"), stage.getInt("hold_windows")), n)
        assertEquals(case.getLong("limit"), gate.limit)
        val energies = case.getJSONArray("energies")
        val opens = case.getJSONArray("opens")
        for (w in 0 until energies.length()) {
            val window = x.copyOfRange(w * n, (w + 1) * n)
            assertEquals(energies.getLong(w), energy(window, 0, n), "$stage, window $w")
            assertEquals(opens.getBoolean(w), gate.opens(window), "$stage, window $w")
        }
    }

    private fun inPlace(
        case: JSONObject,
        stage: JSONObject,
        x: FloatArray,
        rate: Int,
    ) {
        val made: Pair<InPlace, Map<String, Double>> =
            when (stage.getString("kind")) {
                "highpass" -> {
                    HighpassFilter(Stage.Highpass(stage.getDouble("cutoff_hz")), rate)
                        .let { it to mapOf("b" to it.b, "a1" to it.a1, "a2" to it.a2) }
                }

                "gain" -> {
                    FixedGain(Stage.Gain(stage.getDouble("gain_db"))).let { it to mapOf("factor" to it.factor) }
                }

                "limiter" -> {
                    PeakLimiter(Stage.Limiter(stage.getDouble("ceiling_dbfs"), stage.getDouble("release_ms")), rate)
                        .let { it to mapOf("ceiling" to it.ceiling, "release" to it.release) }
                }

                else -> {
                    WetDryMix(
                        Stage.WetDry(stage.getDouble("attenuation_limit_db")),
                        case.getInt("delay_samples"),
                        x.size,
                    ).let { it to mapOf("dry" to it.dry) }
                }
            }
        val (filter, constants) = made
        val given = case.getJSONObject("constants")
        for ((name, value) in constants) assertEquals(given.getDouble(name), value, "$stage $name")
        for (seed in 0..2) {
            filter.reset()
            val block = if (filter is WetDryMix) x.reversedArray() else x.copyOf()
            if (filter is WetDryMix) filter.feed(x, 0, x.size)
            var at = 0
            for (size in partition(x.size, if (seed == 0) x.size else null, seed)) {
                filter.process(block, at, size)
                at += size
            }
            assertSameBits(case.getJSONArray("output").floats(), block, "$stage, seed $seed")
        }
    }

    @Test fun playoutRingGivesTheGoldenBitsAndCounts() {
        val cases = golden("playout").getJSONArray("cases")
        assertEquals(11, cases.length())
        for (c in 0 until cases.length()) {
            val case = cases.getJSONObject(c)
            val ring =
                PlayoutRing(
                    case.getInt("capacity"),
                    case.getInt("prefill"),
                    case.getInt("deadband"),
                    case.getInt("tolerance"),
                    case.getInt("rate_hz"),
                    case.getBoolean("drift_correction"),
                )
            play(ring, case, case.getString("name"))
            val counts = case.getJSONObject("counts")
            val came = ring.counts()
            assertEquals(
                listOf(
                    "offered",
                    "written",
                    "dropped",
                    "consumed",
                    "held",
                    "trimmed",
                    "played",
                    "silence",
                    "underrun",
                    "tail",
                    "underruns",
                ).map { counts.getLong(it) },
                came.run {
                    listOf(
                        offered,
                        written,
                        dropped,
                        consumed,
                        held,
                        trimmed,
                        played,
                        silence,
                        underrun,
                        tail,
                        underruns,
                    )
                },
                case.getString("name"),
            )
        }
    }

    private fun play(
        ring: PlayoutRing,
        case: JSONObject,
        name: String,
    ) {
        var state = 3L
        val outputs = mutableListOf<Float>()
        val adjusts = mutableListOf<Long>()
        val operations = case.getJSONArray("operations")
        for (o in 0 until operations.length()) {
            val operation = operations.getJSONArray(o)
            val n = if (operation.length() > 1) operation.getInt(1) else 0
            val now = if (operation.length() > 2) operation.getLong(2) else 0L
            val block = FloatArray(n)
            when (operation.getString(0)) {
                "w" -> {
                    for (i in 0 until n) {
                        state = (state * 1103515245 + 12345) % (1L shl 31)
                        block[i] = ((state shr 7) - (1L shl 23)) / 8388608f
                    }
                    ring.write(block, 0, n, now)
                }

                "r" -> {
                    ring.read(block, n, now)
                    outputs += block.toList()
                    adjusts += ring.adjustment
                }

                else -> {
                    ring.finish()
                }
            }
        }
        assertEquals(case.getInt("outputs"), outputs.size, name)
        assertEquals(case.getString("fnv1a"), "%016x".format(fnv1a(outputs)), name)
        val expected = case.getJSONArray("adjust_every_50_reads")
        assertEquals(
            List(expected.length()) { expected.getLong(it) },
            adjusts.filterIndexed { i, _ -> i % 50 == 0 },
            name,
        )
    }

    private fun fnv1a(values: List<Float>): Long {
        var hash = -0x340d631b7bdddcdbL // 0xcbf29ce484222325
        for (value in values) {
            val bits = value.toRawBits()
            for (shift in 0..24 step 8) hash = (hash xor ((bits shr shift) and 0xff).toLong()) * 0x100000001b3L
        }
        return hash
    }
}
