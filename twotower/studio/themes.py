"""Eight things that a text may be about, one for each class of the text part, each in many words.

The phrases of a theme share few words with each other, and some use the words of another theme in a figure of speech
("married to the machine", "buried in toys"), so what a text is about is told by its meaning more than by any one word.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Theme:
    """Phrases to make sentences of.

    Args:
        who: persons, in lower case.
        does: what one of them does, in the third person.
        when: where or when, to end a sentence with.
        about: noun phrases for what the song is about.
    """

    who: tuple[str, ...]
    does: tuple[str, ...]
    when: tuple[str, ...]
    about: tuple[str, ...]


def _theme(*, who: str, does: str, when: str, about: str) -> Theme:
    """Phrases are separated by semicolons; line ends do not matter."""
    return Theme(*(tuple(" ".join(part.split()) for part in parts.split(";")) for parts in (who, does, when, about)))


DEPARTURE = _theme(
    who="""a drifter; someone with one suitcase; the younger sister; a hitchhiker; an emigrant; the last tenant;
        a sailor's child; a stranger at the counter; a runaway; the backpacker; a lorry driver; an exile; a nomad;
        the passenger in seat nine; a pilgrim; somebody without a forwarding address; the stowaway; a traveller""",
    does="""buys a one-way ticket; hands back the keys; watches the platform slide away; counts the borders ahead;
        packs before anyone wakes; waves until the bend hides the house; trades a fixed address for a map;
        sleeps through three time zones; gets a stamp in an empty passport; thumbs a lift; sets out once more;
        boards the ferry; crosses the desert by coach; falls in love with the horizon; leaves the porch light on;
        takes the turning marked west; lets the compass decide; sails at high tide; outgrows the valley""",
    when="""on the first bus out; with no plan to return; a thousand miles from the old street; where the road bends;
        while the engine warms up; at the edge of town; under a foreign sky; between two stations; past the last
        petrol pump; from the rear window; on the night train; at gate eleven; beyond the frontier; with dusty boots;
        somewhere along the coast; as the runway drops away; in the slow lane; at the crossroads""",
    about="""leaving for good; the open highway; packing up and going; the pull of distant places; a long trek;
        exile and its luggage; saying goodbye at the terminal; starting over elsewhere; wanderlust; a voyage;
        homesickness in a rented room; roads not yet taken; emigration; itchy feet; a farewell on the quay;
        the far side of the map; miles and milestones; being always on the move""",
)
ROMANCE = _theme(
    who="""a shy admirer; the newlywed; a boy with a crush; somebody smitten; the girl next door; a bashful clerk;
        an old flame; a dancer; the fiancé; a hopeless romantic; the secret sweetheart; a married couple's matchmaker;
        a bachelor; the one who got away; a suitor; somebody's darling; a pen friend; the heart-struck barista""",
    does="""cannot stop smiling; steals a first kiss; rehearses a proposal; blushes at a name; holds hands in secret;
        keeps every valentine; falls head over heels; whispers sweet nothings; adores each freckle; gets butterflies;
        leans in closer; carves two initials into bark; dies of longing; sends a dozen roses; melts at a glance;
        slips a ring into the dessert; surrenders to a pair of brown eyes; writes a poem on a napkin; says yes""",
    when="""by candlelight; in each other's arms; on the second date; under the porch lamp; with a racing pulse;
        all through the night; at the foot of the stairs; when their eyes meet; cheek to cheek; in the back row of the
        cinema; on honeymoon; over a shared dessert; below the balcony; hand in hand; on Valentine's day; at the altar;
        with trembling lips; across the ballroom""",
    about="""being hopelessly in love; tenderness between two people; a courtship; desire that will not keep quiet;
        sweethearts; the giddiness of infatuation; an embrace; devotion to one person; passion; a marriage proposal;
        flirting; love at first sight; two hearts; a kiss remembered; wooing; lovers who cannot sleep; affection;
        the chemistry between strangers""",
)
MOURNING = _theme(
    who="""the widow; a son in a black suit; the gravedigger; an orphan; a brother who survived; the undertaker;
        a mother without her daughter; the oldest friend of the deceased; a pallbearer; the bereaved; a lonely widower;
        the stonecutter; a nurse from the hospice; the last of the family; a veteran; the chaplain; a godmother;
        someone left behind""",
    does="""lays a wreath; reads the will aloud; keeps the coat that still smells of him; lowers the coffin;
        weeps where nobody can see; sets a place for the dead; folds clothes no one will wear; visits the headstone;
        cannot erase the number; scatters the ashes; lights a candle for the departed; speaks to a photograph;
        drapes the mirrors; stops all the clocks; dances with an empty coat; says the prayer for the dying;
        keeps the vigil; tends the grave; swallows the tears""",
    when="""after the funeral; at the cemetery gate; in a house gone silent; on the anniversary of the burial;
        beside an empty chair; through the first winter alone; when the mourners have left; at the deathbed;
        in the chapel of rest; with a black ribbon; since the accident; under the yew trees; a year after the loss;
        at the wake; where the hearse stood; when the telegram comes; on All Souls' day; next to the urn""",
    about="""grief; an elegy for someone buried too soon; bereavement; the hole a death leaves; burying a parent;
        a requiem for a friend; ashes and remembrance; sorrow that does not lift; a lament; the late father;
        condolences; missing someone who will not return; a eulogy; mortality; the ones we lost; heartache after a
        stillbirth; tears at the graveside; what the dead leave us""",
)
FEAST = _theme(
    who="""the whole neighbourhood; a bride's uncle; the host; a crowd in paper hats; the birthday girl; a bartender;
        everyone on the guest list; the loudest cousin; a reveller; the master of ceremonies; the winning team;
        an uninvited guest; the toastmaster; a conga line; the cook; a troupe of jugglers; the mayor in a wig;
        the life and soul""",
    does="""raises a glass; dances on the tables; throws confetti; pops another cork; toasts until the bottles are dry;
        lights the fireworks; cuts the enormous cake; shouts for one more round; will not go home before dawn;
        dies laughing; blows out the candles; hangs up the garlands; spins the piñata; burns the midnight oil in
        dancing shoes; hugs all comers; calls for an encore; roasts an ox; cheers the roof off; wears a foil crown""",
    when="""at the street carnival; on New Year's eve; until the neighbours join in; at a wedding that lasts three days;
        with the doors wide open; on the busiest night of the year; as the clock strikes twelve; in borrowed sequins;
        under strings of lanterns; when the band will not stop; around the punch bowl; at the homecoming; over seven
        courses; in the village square; with streamers everywhere; after the cup final; at Mardi Gras; by a bonfire""",
    about="""a party nobody wants to end; merrymaking; a wild celebration; champagne and laughter; a jubilee;
        letting loose together; the joy of a festival; a banquet; revelry; a toast to good fortune; a housewarming;
        the happiest hour; carnival; a birthday that got out of hand; cheerful noise; a reunion with dancing;
        confetti in everyone's hair; victory and its parade""",
)
LABOUR = _theme(
    who="""a welder; the night-shift nurse; a miner; the foreman; a seamstress paid by the piece; a farmhand;
        the cleaner; an apprentice; a bricklayer; the bus conductor; a docker; the temp; a lathe operator; the waitress;
        somebody with two jobs; a steelworker; the bookkeeper; a fruit picker""",
    does="""clocks in again; counts the overtime; hauls crates; wipes off the grease; signs the invoice; digs for coal;
        waits for payday; mends the conveyor belt; pays down the debt; eats lunch from a tin; stays married to the
        machine; sweeps the depot; lays another course of bricks; asks for a raise; scrubs the same corridor;
        buries the day in paperwork; carries sacks of cement; oils the gears; stitches the thousandth hem""",
    when="""before the factory whistle; on minimum wage; at the end of a double shift; down in the pit;
        with an aching back; on the assembly line; while the boss looks on; till the harvest is in; at the mill;
        for ten pounds an hour; in steel-capped boots; on a Monday at five; between deadlines; in the loading bay;
        under fluorescent tubes; through the lunch break; on the scaffolding; with a quota to meet""",
    about="""earning a living; hard toil for little money; the daily grind; wages and rent; a trade learned by hand;
        the workshop floor; sweat and calluses; a job that wears people down; making ends meet; the pay packet;
        the craft of a joiner; unemployment and its queues; the shift that never ends; piecework; breadwinning;
        rust and rivets; a long week at the plant; honest work""",
)
CHILDHOOD = _theme(
    who="""a seven-year-old; the boy with scraped knees; a schoolgirl; the smallest of the gang; a kid on a swing;
        the grandmother's favourite; a toddler; the new pupil; a little brother; the girl with pigtails; an only child;
        a scout; the paper boy; a pair of twins; the class clown; a child in rubber boots; the tooth fairy's customer;
        an imaginary friend""",
    does="""builds a den out of blankets; loses a milk tooth; learns to whistle; skips class; trades marbles;
        hides sweets under the pillow; believes in the monster below the bed; rides a tricycle down the hall;
        draws with chalk on the pavement; wages war with wooden swords; jumps into puddles; begs for one more story;
        proposes with a ring of liquorice; gets buried in toys; climbs the apple tree; counts to a hundred at hide and
        seek; sails to the moon in a bathtub; feeds crumbs to a teddy bear; spells out the alphabet""",
    when="""in the summer holidays; after the school bell; behind the playground; long before growing up;
        in grandfather's attic; when an afternoon lasts for ever; in the back seat; on the first day of term;
        in the sandpit; with jam on both cheeks; at the top of the slide; in the treehouse; under the kitchen table;
        with a satchel too big; on the merry-go-round; in short trousers; at the birthday of a classmate; before bed""",
    about="""toys in a box; early memories; being little; nursery days; the games of a vanished youth; lullabies;
        growing up too fast; a playground long since paved; bedtime stories; a rocking horse; being six; school
        reports; make-believe; family snapshots from the seventies; innocence; first bicycles; what the dolls heard;
        kindergarten""",
)
DEFIANCE = _theme(
    who="""a striker; the dissident; a crowd with banners; a girl with a megaphone; the censored poet; an outlaw;
        a prisoner of conscience; the youngest marcher; a rebel; the whistleblower; a union of the angry; the agitator;
        a partisan; the deserter; a student leader; the suffragette; a hunger striker; the banned journalist""",
    does="""refuses to kneel; tears down the poster of the general; burns the decree; storms the ministry;
        spits at the throne; will not be silenced; blocks the tanks; paints slogans on the walls; breaks the curfew;
        plays with fire; demands the vote; rattles the bars; chants louder; crosses the police cordon; raises a fist;
        crashes the party of the rich; prints the forbidden leaflet; topples the statue; shelters the hunted""",
    when="""on the barricades; in the face of the police; before the tribunal; while the regime totters;
        in the occupied square; behind bars; at the height of the uprising; against every order; under martial law;
        through clouds of tear gas; outside the parliament; in the teeth of the censors; on the eve of revolution;
        at the picket; with nothing to lose but chains; in handcuffs; as the palace gates give way; underground""",
    about="""revolt; justice for those without a voice; the fall of a tyrant; a march on the capital; liberty;
        rage against the powerful; civil disobedience; people who rise up; resistance; an unjust law; mutiny;
        the price of dissent; equality; a fight for rights; riot and riposte; corruption at the top; breaking the
        yoke; solidarity""",
)
STILLNESS = _theme(
    who="""a sleeper; someone in a hammock; the insomniac at last; a monk; a cat by the stove; the bather;
        a reader who nods off; a patient on the mend; the night owl at noon; a hermit; the angler; a meditator;
        somebody on a deckchair; the daydreamer; a convalescent; the old man on the bench; a yogi; the beekeeper""",
    does="""breathes slowly; drifts off; lets the tea go cold; listens to nothing at all; lies down in the grass;
        closes both eyes; forgets the hour; sinks into the cushions; lets every thought go by; dozes;
        leaves the world behind without moving; watches the dust in the light; naps;
        stretches and yawns; pulls up the blanket; counts sheep and loses count; soaks in warm water;
        unplugs the telephone; sits quite still""",
    when="""in the hush of a lazy noon; under a heavy quilt; while snow muffles the house; in perfect quiet;
        with nothing left to do; between waking and dreaming; as the evening settles; on a windless day;
        beside a pond; to the ticking of rain; behind drawn curtains; in a patch of shade; long past the alarm;
        at the pace of a snail; on a feather bed; where no one calls; in the garden of a cloister; by the embers""",
    about="""rest; peace of mind; a slumber without dreams; doing nothing; meditation; calm after a long day;
        silence and soft breathing; idleness without guilt; serenity; a siesta; deep sleep; letting go; stillness;
        the comfort of a pillow; solitude that does not hurt; slow time; a lull; tranquil water""",
)

THEMES = (DEPARTURE, ROMANCE, MOURNING, FEAST, LABOUR, CHILDHOOD, DEFIANCE, STILLNESS)
